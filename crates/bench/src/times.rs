//! How long things took.

use std::cell::Cell;
use std::sync::Barrier;
use std::time::Duration;

use strongroom_e2e::processes::now;

use crate::Outcome;

/// Durations of the same act, shortest first; at least one.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Does it so many times, each timed by itself.
    pub(crate) fn of(count: usize, mut act: impl FnMut(usize) -> Outcome<()>) -> Outcome<Self> {
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            times.push(timed(|| act(number))?.0);
        }
        Ok(Self::from(times))
    }

    pub(crate) fn median_ms(&self) -> f64 {
        self.quantile_ms(50)
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.quantile_ms(99)
    }

    fn quantile_ms(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        ms(self.0.get(at).copied().unwrap_or_default())
    }
}

impl From<Vec<Duration>> for Times {
    fn from(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }
}

/// How long one act took, with what it gave.
pub(crate) fn timed<T>(act: impl FnOnce() -> Outcome<T>) -> Outcome<(Duration, T)> {
    let start = now();
    let done = act()?;
    Ok((start.elapsed(), done))
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Acts a second.
pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    f64::from(count) / took.as_secs_f64()
}

/// Does it over and over in so many threads at once, each after it has prepared itself; gives acts a second and the time of
/// each.
pub(crate) fn at_once(
    threads: usize,
    length: Duration,
    work: impl Fn(usize, &Turn<'_>) -> Outcome<Vec<Duration>> + Sync,
) -> Outcome<(f64, Times)> {
    let barrier = Barrier::new(threads);
    let run = |number: usize| {
        let turn = Turn { barrier: &barrier, length, waited: Cell::new(false) };
        let done = work(number, &turn);
        // One that failed before its turn must not keep the others waiting.
        turn.wait();
        done
    };
    let done: Vec<Outcome<Vec<Duration>>> = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let mut times = Vec::new();
    for part in done {
        times.extend(part?);
    }
    Ok((rate(times.len(), length), Times::from(times)))
}

/// A thread's turn to work.
pub(crate) struct Turn<'a> {
    barrier: &'a Barrier,
    length: Duration,
    waited: Cell<bool>,
}

impl Turn<'_> {
    /// Waits for the others, then repeats until the time is over.
    pub(crate) fn repeat(&self, mut act: impl FnMut() -> Outcome<()>) -> Outcome<Vec<Duration>> {
        self.wait();
        let end = now() + self.length;
        let mut times = Vec::new();
        while now() < end {
            times.push(timed(&mut act)?.0);
        }
        Ok(times)
    }

    fn wait(&self) {
        if !self.waited.replace(true) {
            self.barrier.wait();
        }
    }
}
