//! Rules broken on purpose, so that the simulator can show that it finds them. Without the feature `planted-faults`, which tests
//! alone turn on, [`rule!`] is its good half and nothing of this is built.

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
}

/// Plants a fault in this thread; 0 takes it out again.
#[cfg(feature = "planted-faults")]
pub fn plant(number: u8) {
    PLANTED.set(number);
}

/// Whether a fault is planted.
#[cfg(feature = "planted-faults")]
pub(crate) fn planted(number: u8) -> bool {
    PLANTED.get() == number
}

/// The faults: number and what is wrong.
#[cfg(feature = "planted-faults")]
pub const FAULTS: [(u8, &str); 20] = [
    (1, "the use of a grant is not counted"),
    (2, "the expiry of a grant is not looked at"),
    (3, "what is open is not void when its item changes"),
    (4, "answers leave although the commit failed"),
    (5, "an attempt is counted in memory alone"),
    (6, "a session never ends"),
    (7, "a challenge is good twice"),
    (8, "a challenge is good for every device"),
    (9, "a handle is good twice"),
    (10, "a guest that is suspended is served"),
    (11, "guests are served before the log is confirmed"),
    (12, "a device that was thrown out is still heard"),
    (13, "a grant that was ended goes on"),
    (14, "the rate of a grant is not kept"),
    (15, "an older database is opened"),
    (16, "an older record is not noticed"),
    (17, "an older credential does not freeze its chain"),
    (18, "the counter of one-time codes stands still"),
    (19, "chain files stay under the old vault key"),
    (20, "of several grants the laxest mode holds"),
];

/// `rule!(number, good, bad)`: the good half, unless this fault is planted.
macro_rules! rule {
    ($number:literal, $good:expr, $bad:expr) => {{
        #[cfg(feature = "planted-faults")]
        let result = if crate::planted::planted($number) { $bad } else { $good };
        #[cfg(not(feature = "planted-faults"))]
        let result = $good;
        result
    }};
}
pub(crate) use rule;
