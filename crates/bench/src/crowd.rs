//! Many vaults on one machine: what an idle open one holds, and how long the first answer of one that was not running takes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::secret::VaultKey;
use strongroom_core::records::{HeaderCopy, Storage as _};
use strongroom_e2e::members::{Member, SharedFactors};
use strongroom_e2e::{Place, processes};
use strongroom_store::FileStore;

use crate::Outcome;
use crate::figure::Figure;
use crate::times::{Times, timed};
use crate::writes::private_folder;

/// Memory and cold start with so many vaults.
pub(crate) fn figures(count: usize) -> Outcome<Vec<Figure>> {
    let mut place = Place::new();
    place.serve(&[]);
    let factors = SharedFactors::derive()?;
    let mut members = Vec::with_capacity(count);
    for number in 0..count {
        // One user may make so many an hour, as a server counts from its start.
        if number > 0 && number % NEW_VAULTS_PER_HOUR_MAX == 0 {
            place.stop();
            place.serve(&[]);
        }
        members.push(Member::found(&place.socket(), &factors)?);
    }
    // From here on each vault's first request finds no process.
    place.stop();
    place.serve(&[]);
    let (locked, opened) = members.split_at_mut(count / 2);
    let first_status = Times::of(locked.len(), |number| locked[number].status(&place.socket()))?;
    let first_unlock = Times::of(opened.len(), |number| opened[number].unlock(&place.socket(), &factors))?;
    for member in locked {
        member.unlock(&place.socket(), &factors)?;
    }
    for member in &members {
        member.confirm(&place.socket())?;
    }
    let vaults = vault_processes(&place);
    if vaults.len() != count {
        return Err(format!("{} vault processes of {count} are up", vaults.len()).into());
    }
    thread::sleep(SETTLE);
    let (memory, private) = (average_mib(&vaults, "Pss:"), average_mib(&vaults, "Private_Dirty:"));
    let busy = busy(&vaults)?;
    place.stop();

    let mut floor = Floor::start(&place, count)?;
    let floor_memory = average_mib(&floor.pids(), "Pss:");
    let floor_start = Times::from(std::mem::take(&mut floor.starts));
    drop(floor);

    let name = format!("idle open vault process, PSS, {count} of them");
    let memory = match (memory, floor_memory) {
        (Some(ours), Some(floor)) => Figure::new(name, ours, "MiB")
            .beside("a process that only opens the database, by exec", floor)
            .at_most(1.0)
            .else_because(format!(
                "{:.2} MiB of it are written by the process itself: relocated data, heap and stack.",
                private.unwrap_or_default()
            )),
        _ => Figure::not_measured(name, "MiB", "Only root reads the memory maps of a process that cannot be dumped."),
    };
    let header = header_ms()?;
    let start = |name: &str, times: &Times, parts: &str| {
        let floor = "spawn to first answer of a process that only opens a database";
        [
            Figure::new(format!("cold start, {name}, median"), times.median_ms(), "ms")
                .beside(floor, floor_start.median_ms())
                .at_most(6.0)
                .else_because(parts),
            Figure::new(format!("cold start, {name}, p99"), times.p99_ms(), "ms")
                .beside(floor, floor_start.p99_ms())
                .at_most(15.0)
                .else_because(parts),
        ]
    };
    let mut figures = vec![memory, busy];
    let shared = "A process is forked, set apart and jailed, reads its header, and answers the channel's three messages, which the floor \
                  does not; the floor is started by an exec.";
    figures.extend(start("status of a locked vault", &first_status, shared));
    let durable = format!("{shared} An unlock replaces the header several times, durably: {header:.1} ms each here.");
    figures.extend(start("unlock with a derived key", &first_unlock, &durable));
    Ok(figures)
}

fn vault_processes(place: &Place) -> Vec<u32> {
    let children = place.host_pid().map(processes::children).unwrap_or_default();
    children.into_iter().filter(|(_, line)| line.starts_with("vault: ")).map(|(pid, _)| pid).collect()
}

/// What a header costs that is replaced durably.
fn header_ms() -> Outcome<f64> {
    let folder = private_folder()?;
    let mut store = FileStore::open(folder.path())?;
    Ok(Times::of(50, |_| Ok(store.write_header(HeaderCopy::A, &[7; HEADER_BYTES])?))?.median_ms())
}

/// A line of `smaps_rollup`; `None` where one of them cannot be read.
fn average_mib(pids: &[u32], line: &str) -> Option<f64> {
    let mut kib = 0;
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let rest = rollup.lines().find_map(|found| found.strip_prefix(line))?;
        kib += rest.split_whitespace().next()?.parse::<u32>().ok()?;
    }
    Some(f64::from(kib) / 1024.0 / f64::from(u32::try_from(pids.len()).ok()?))
}

/// What all of them together take of one processor while nobody asks anything.
fn busy(pids: &[u32]) -> Outcome<Figure> {
    let spent = || -> Outcome<f64> {
        let mut ns = 0.0;
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
            ns += stat.split_whitespace().next().ok_or("schedstat is empty")?.parse::<f64>()?;
        }
        Ok(ns)
    };
    let before = spent()?;
    let (took, ()) = timed(|| {
        thread::sleep(IDLE);
        Ok(())
    })?;
    let share = (spent()? - before) / took.as_secs_f64() / 1e9;
    Ok(Figure::new(format!("processor time of {} idle open vaults", pids.len()), share * 100.0, "%"))
}

/// As many processes that only open a database like a vault's.
struct Floor {
    children: Vec<Child>,
    starts: Vec<Duration>,
}

impl Floor {
    fn start(place: &Place, count: usize) -> Outcome<Self> {
        let folder = private_folder()?;
        let key = VaultKey::generate(&mut os_rng()).derive_database_key(&[1; 16], 1);
        let mut store = FileStore::open(folder.path())?;
        store.create_database(&key)?;
        store.close_database();
        let original = folder.path().join("vault.db");
        let mut floor = Self { children: Vec::with_capacity(count), starts: Vec::with_capacity(count) };
        for number in 0..count {
            let copy = place.path(&format!("floor-{number}.db"));
            fs::copy(&original, &copy)?;
            // EXPOSE: the key of an empty database that this bench has made.
            let mut command = program()?;
            command.arg("answer").arg(copy).arg(&*key.expose_hex());
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let (took, child) = timed(|| {
                let mut child = command.spawn()?;
                if let (Some(input), Some(output)) = (&mut child.stdin, &mut child.stdout) {
                    input.write_all(&[1])?;
                    output.read_exact(&mut [0])?;
                }
                Ok(child)
            })?;
            floor.children.push(child);
            floor.starts.push(took);
        }
        Ok(floor)
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The floor's program, beside this one.
pub(crate) fn program() -> Outcome<Command> {
    Ok(Command::new(std::env::current_exe()?.with_file_name("strongroom-bench-floor")))
}

const NEW_VAULTS_PER_HOUR_MAX: usize = 60;
const HEADER_BYTES: usize = 8 * 1024;
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(5);
