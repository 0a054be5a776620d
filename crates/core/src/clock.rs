//! Time as a vault counts it: it never goes back, and a machine that disagrees with the member's device is noticed.

use strongroom_wire::{Timestamp, limits};

/// A moment as the program saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The host's clock.
    pub wall: Timestamp,
    /// Milliseconds that count up and never stop while the program runs.
    pub ticks_ms: u64,
}

/// The vault's clock: the largest of host clock, last logged time and the device's signed time, counted on from there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    floor: Timestamp,
    floor_ticks_ms: u64,
    /// The clock of the device that unlocked last, and when it was heard, in ticks.
    heard: Option<(Timestamp, u64)>,
}

impl Clock {
    /// The time now.
    pub fn now(&self, moment: Moment) -> Timestamp {
        let counted = Timestamp(self.floor.0.saturating_add(moment.ticks_ms.saturating_sub(self.floor_ticks_ms)));
        moment.wall.max(counted)
    }

    /// Takes a moment that came: it is never earlier than that again, whatever becomes of the host's clock.
    pub fn see(&mut self, moment: Moment) {
        self.floor = self.now(moment);
        self.floor_ticks_ms = moment.ticks_ms;
    }

    /// Takes a time that was seen: it is not earlier than that any more.
    pub fn not_before(&mut self, time: Timestamp, moment: Moment) {
        if time > self.now(moment) {
            self.floor = time;
            self.floor_ticks_ms = moment.ticks_ms;
        }
    }

    /// Takes the device's clock at an unlock, and says whether the host's disagrees.
    pub fn hear_device(&mut self, device: Timestamp, moment: Moment) -> bool {
        self.heard = Some((device, moment.ticks_ms));
        self.not_before(device, moment);
        self.disagrees(moment)
    }

    /// The time of day, for what other machines compare with their clocks: certificates, one-time codes, tokens. Unlike the vault's
    /// own time it comes back with a clock that once ran ahead: it is the host's, unless a device said otherwise.
    pub fn of_day(&self, moment: Moment) -> Timestamp {
        if self.disagrees(moment) { self.expected(moment) } else { moment.wall }
    }

    /// Whether the host's clock disagrees now with that of the device that unlocked last, counted on; guests are suspended while
    /// it does. A vault whose time once ran ahead does not suspend them for ever: what counts is whether the two agree today.
    pub fn disagrees(&self, moment: Moment) -> bool {
        self.expected(moment).0.abs_diff(moment.wall.0) > limits::CLOCK_DISAGREEMENT_MS
    }

    /// What the clock of the device that unlocked last says by now.
    fn expected(&self, moment: Moment) -> Timestamp {
        match self.heard {
            Some((device, at)) => Timestamp(device.0.saturating_add(moment.ticks_ms.saturating_sub(at))),
            None => self.now(moment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: u64, ticks_ms: u64) -> Moment {
        Moment { wall: Timestamp(wall), ticks_ms }
    }

    #[test]
    fn a_clock_set_back_goes_on_from_where_it_was() {
        let mut clock = Clock::default();
        clock.not_before(Timestamp(1_000_000), moment(1_000_000, 10));
        assert_eq!(clock.now(moment(1_000_500, 510)), Timestamp(1_000_500));
        clock.not_before(Timestamp(1_000_500), moment(0, 510));
        assert_eq!(clock.now(moment(0, 1_510)), Timestamp(1_001_500));
        assert!(clock.disagrees(moment(0, 1_510)));
    }

    #[test]
    fn a_clock_set_back_while_the_vault_runs_does_not_take_it_along() {
        let mut clock = Clock::default();
        clock.not_before(Timestamp(1_000), moment(9_000_000, 10));
        clock.see(moment(9_000_000, 10));
        assert_eq!(clock.now(moment(8_000_000, 20)), Timestamp(9_000_010));
    }

    #[test]
    fn a_device_that_disagrees_is_heard() {
        let mut clock = Clock::default();
        assert!(!clock.hear_device(Timestamp(10_000_000), moment(10_100_000, 0)));
        assert!(clock.hear_device(Timestamp(99_000_000), moment(10_100_000, 0)));
        assert_eq!(clock.now(moment(10_100_000, 5)), Timestamp(99_000_005));
    }

    #[test]
    fn the_time_of_day_comes_back_with_a_clock_that_was_ahead_and_is_the_devices_while_they_disagree() {
        let (day, year) = (1_000_000_000_000, 365 * 24 * 3_600_000);
        let mut clock = Clock::default();
        assert!(!clock.hear_device(Timestamp(day), moment(day + 1_000, 0)));
        assert_eq!(clock.of_day(moment(day + 3_000, 2_000)), Timestamp(day + 3_000), "the host's, where they agree");
        clock.see(moment(day + year, 3_000));
        assert_eq!(clock.of_day(moment(day + year, 3_000)), Timestamp(day + 3_000));
        assert_eq!(clock.of_day(moment(day - year, 4_000)), Timestamp(day + 4_000));
        assert_eq!(clock.of_day(moment(day + 5_000, 5_000)), Timestamp(day + 5_000));
        assert!(
            clock.now(moment(day + 5_000, 5_000)) >= Timestamp(day + year),
            "the vault's own time does not come back"
        );
    }

    #[test]
    fn a_device_that_was_ahead_suspends_guests_until_one_agrees_and_time_stays_where_it_was() {
        let mut clock = Clock::default();
        assert!(clock.hear_device(Timestamp(11_000_000), moment(10_000_000, 0)));
        assert!(clock.disagrees(moment(10_050_000, 50_000)));
        assert!(!clock.hear_device(Timestamp(10_060_000), moment(10_060_000, 60_000)));
        assert!(!clock.disagrees(moment(10_070_000, 70_000)));
        assert_eq!(clock.now(moment(10_070_000, 70_000)), Timestamp(11_070_000));
        assert!(clock.disagrees(moment(9_000_000, 80_000)), "a host that is set back while the vault is open");
        assert!(clock.disagrees(moment(19_000_000, 80_000)), "or forward");
    }
}
