//! How people write durations, sizes and hours, and how times are shown to them.

use strongroom_client::clock;
use strongroom_client::wire::Timestamp;
use strongroom_client::wire::policy::Hours;

/// A duration such as `90s`, `15m`, `12h`, `30d` or `1h30m`, in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no duration; write 90s, 15m, 12h, 30d or 1h30m");
    let mut total: u64 = 0;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        total = count.checked_mul(unit).and_then(|secs| total.checked_add(secs)).ok_or_else(wrong)?;
    }
    if !number.is_empty() || total == 0 { Err(wrong()) } else { Ok(total) }
}

/// A number of bytes such as `512`, `64KiB`, `10MiB` or `1GiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write 512, 64KiB, 10MiB or 1GiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

/// Hours of the day in UTC, such as `08:00-18:00`.
pub(crate) fn parse_hours(text: &str) -> Result<Hours, String> {
    let wrong = || format!("`{text}` is no range of hours; write 08:00-18:00 (UTC)");
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 1_440).then_some(hour * 60 + minute)
    };
    let (from_minute, to_minute) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
    if from_minute == 1_440 || from_minute == to_minute { Err(wrong()) } else { Ok(Hours { from_minute, to_minute }) }
}

/// A duration in the two largest units that it has.
pub(crate) fn duration(secs: u64) -> String {
    let parts = [(secs / 86_400, "d"), (secs / 3_600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

/// How far off a time is: `in 3m 20s`, `5h 2m ago`.
pub(crate) fn relative(at: Timestamp) -> String {
    let now = clock::now();
    match at.secs_since(now) {
        0 if now.secs_since(at) == 0 => "now".to_owned(),
        0 => format!("{} ago", duration(now.secs_since(at))),
        ahead => format!("in {}", duration(ahead)),
    }
}

/// Hours of the day as they are written.
pub(crate) fn hours(hours: Hours) -> String {
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{}-{} UTC", time(hours.from_minute), time(hours.to_minute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        assert_eq!(parse_duration("90s"), Ok(90));
        assert_eq!(parse_duration("1h30m"), Ok(5_400));
        assert_eq!(parse_duration("30d"), Ok(2_592_000));
        for bad in ["", "5", "m", "1w", "0s", "-1s", "1h 30m", "99999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration(5_400), "1h 30m");
        assert_eq!(duration(86_400), "1d");
        assert_eq!(duration(0), "0s");
    }

    #[test]
    fn sizes_and_hours_read() {
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("512"), Ok(512));
        assert!(parse_size("10MB").is_err() && parse_size("x").is_err());
        let hours = parse_hours("22:00-06:30").unwrap();
        assert_eq!((hours.from_minute, hours.to_minute), (1_320, 390));
        for bad in ["8-18", "25:00-06:00", "08:00-08:00", "24:00-06:00", "08:61-09:00"] {
            assert!(parse_hours(bad).is_err(), "{bad}");
        }
    }
}
