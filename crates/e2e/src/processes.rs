//! Other processes: waiting for them, ending them, looking into them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Asks `done` until it says yes; `false` where it did not within `secs`.
pub fn until(secs: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = now() + Duration::from_secs(secs);
    loop {
        if done() {
            return true;
        }
        if now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The time, for measuring.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "tests are programs, and measure")]
pub fn now() -> Instant {
    Instant::now()
}

/// Sends SIGKILL; a process that is gone already is no error.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends SIGTERM.
pub fn terminate(pid: u32) {
    signal(pid, Signal::TERM);
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether there is such a process, and it has not ended.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // pid (name) state …
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

/// The children of a process, each with its name and its command line.
#[must_use]
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state ppid …; the name may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let (state, its_parent) = (fields.first(), fields.get(1).and_then(|ppid| ppid.parse().ok()));
        if its_parent == Some(parent) && state != Some(&"Z") {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push((pid, format!("{}: {}", name.trim(), line.trim())));
        }
    }
    found
}

/// A stretch of a process's memory that can be read.
#[derive(Debug)]
pub struct Region {
    /// As `/proc/PID/maps` describes it.
    pub what: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// All memory of a process that whoever asks can read.
///
/// # Errors
/// When it cannot be read at all.
pub fn memory(pid: u32) -> io::Result<Vec<Region>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut regions = Vec::new();
    for line in maps.lines() {
        let Some((start, end)) = line.split_whitespace().next().and_then(range) else { continue };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let mut filled = 0;
        // Page by page: some pages have nothing behind them, and secret ones refuse.
        while filled < bytes.len() {
            let end = bytes.len().min(filled + PAGE_BYTES);
            let _ = memory.read_exact_at(&mut bytes[filled..end], start + filled as u64);
            filled = end;
        }
        if bytes.iter().any(|byte| *byte != 0) {
            regions.push(Region { what: line.to_owned(), bytes });
        }
    }
    Ok(regions)
}

/// Writes a core file of a process, whatever it has asked to be left out: with `gcore` where this machine has it, registers
/// included, else as a copy of the memory alone. Gives its path.
///
/// # Errors
/// When the process cannot be read, or the file not be written.
pub fn core_dump(pid: u32, folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("core.{pid}"));
    let gcore = Command::new("gcore").args(["-a", "-o"]).arg(folder.join("core")).arg(pid.to_string()).output();
    if !gcore.is_ok_and(|output| output.status.success() && path.is_file()) {
        let mut image = File::create(&path)?;
        memory(pid)?.iter().try_for_each(|region| image.write_all(&region.bytes))?;
    }
    Ok(path)
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    // Guard pages and reservations of many gigabytes hold nothing.
    (end - start <= REGION_BYTES_MAX).then_some((start, end))
}

const PAGE_BYTES: usize = 4096;
const REGION_BYTES_MAX: u64 = 1 << 30;
