//! `host`: how the host on this machine stands, for whoever operates it. It needs no vault and shows nothing of any.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use strongroom_client::wire::operate::{HostRequest, HostStatus, Life, VaultLife};
use strongroom_host::control_socket;

use crate::app::App;
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{escape, table};
use crate::{human, places};

/// `host`
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Show its vault processes, and how far they are set apart
    #[command(after_help = "Examples:
  strongroom host status
  strongroom host status --data /srv/strongroom --json")]
    Status(DataArgs),
    /// Print counts for Prometheus
    #[command(after_help = "No line names a member. For the text file collector of Prometheus' node exporter:

  strongroom host metrics > /var/lib/prometheus/node-exporter/strongroom.prom.new &&
    mv /var/lib/prometheus/node-exporter/strongroom.prom{.new,}")]
    Metrics(DataArgs),
}

/// Which host.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Where its vaults are
    #[arg(long, value_name = "FOLDER", env = "STRONGROOM_DATA")]
    data: Option<PathBuf>,
}

/// Runs `host`.
pub(crate) fn run(app: &App, command: &HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::Status(args) => {
            let status = ask(args)?;
            app.out.result(&status, || shown(&status))
        }
        HostCommand::Metrics(args) => app.out.text(&metrics(&ask(args)?)),
    }
}

fn ask(args: &DataArgs) -> Result<HostStatus, Failure> {
    let socket = control_socket(&args.data.clone().unwrap_or_else(places::data));
    let unreachable = |error: std::io::Error| {
        let text = format!("no host answers at {}: {error}", socket.display());
        Failure::new(Exit::Unreachable, OwnCode::Unreachable, text)
            .hint("strongroom serve, or --data FOLDER; only the user that serves may ask")
    };
    let mut stream = UnixStream::connect(&socket).map_err(unreachable)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(unreachable)?;
    let mut request = serde_json::to_vec(&HostRequest::Status {}).expect("a request has a JSON form");
    request.push(b'\n');
    stream.write_all(&request).map_err(unreachable)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut line).map_err(unreachable)?;
    serde_json::from_slice(&line).map_err(|_| {
        Failure::new(Exit::Local, OwnCode::LocalFailed, "the host answers something else")
            .hint("use command and server of one version")
    })
}

fn shown(status: &HostStatus) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    line(
        "host",
        format!(
            "process {}, version {}, up {}",
            status.pid,
            escape(&status.version),
            human::duration(status.uptime_secs)
        ),
    );
    line(
        "isolation",
        match &status.isolation {
            None => "not examined yet".to_owned(),
            Some(found) if found.missing.is_empty() => escape(&found.level),
            Some(found) => format!("{}; missing: {}", escape(&found.level), escape(&found.missing.join(", "))),
        },
    );
    let count = |life| status.running.iter().filter(|vault| vault.life == life).count();
    let lives: Vec<String> = Life::ALL.iter().map(|life| format!("{} {}", count(*life), life.as_str())).collect();
    line("vaults", format!("{}: {}, the others cold", status.vaults, lives.join(", ")));
    let counted = &status.counters;
    line(
        "since start",
        format!(
            "{} started ({} on average), {} crashed, {} evicted, {} held back",
            counted.started,
            milliseconds(counted.start_us, counted.started),
            counted.crashed,
            counted.evicted,
            counted.held_back
        ),
    );
    if let Some(bytes) = status.memory_available_bytes {
        line("memory", format!("{} MiB available", bytes >> 20));
    }
    if status.running.is_empty() {
        return text;
    }
    let row = |vault: &VaultLife| {
        vec![
            vault.vault.to_string(),
            vault.life.as_str().to_owned(),
            match (vault.held_back, vault.busy) {
                (true, _) => "held back",
                (false, true) => "busy",
                (false, false) => "",
            }
            .to_owned(),
            vault.channels.to_string(),
            vault.pid.to_string(),
            human::duration(vault.since_secs),
            human::duration(vault.used_secs),
        ]
    };
    let rows: Vec<Vec<String>> = status.running.iter().map(row).collect();
    format!("{text}\n{}", table(&["VAULT", "STATE", "", "CHANNELS", "PROCESS", "FOR", "IDLE"], &rows))
}

fn milliseconds(us: u64, count: u64) -> String {
    let tenths = us.checked_div(count).unwrap_or(0) / 100;
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

/// The text format of Prometheus (version 0.0.4): counts and sums, and no label that names a member.
fn metrics(status: &HostStatus) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, rows: &[(String, String)]| {
        let _ = writeln!(text, "# HELP strongroom_{name} {help}\n# TYPE strongroom_{name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "strongroom_{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value.to_string())];
    metric("up_seconds", "gauge", "Time since the host was started.", &one(status.uptime_secs));
    metric("vaults", "gauge", "Vaults that there are.", &one(status.vaults));
    let of_life = |life: &Life| {
        let count = status.running.iter().filter(|vault| vault.life == *life).count();
        (format!("{{state=\"{}\"}}", life.as_str()), count.to_string())
    };
    let lives: Vec<_> = Life::ALL.iter().map(of_life).collect();
    metric("vault_processes", "gauge", "Vault processes by state.", &lives);
    let busy = status.running.iter().filter(|vault| vault.busy).count() as u64;
    metric("vault_processes_busy", "gauge", "Vault processes with a request or an approval under way.", &one(busy));
    let held = status.running.iter().filter(|vault| vault.held_back).count() as u64;
    metric("vault_processes_held_back", "gauge", "Vault processes that take more than their part.", &one(held));
    let channels = status.running.iter().map(|vault| vault.channels).sum();
    metric("channels", "gauge", "Channels of devices and guests.", &one(channels));
    let counted = &status.counters;
    metric("vault_starts_total", "counter", "Vault processes that were started.", &one(counted.started));
    metric("vault_crashes_total", "counter", "Vault processes that crashed.", &one(counted.crashed));
    metric("vault_evictions_total", "counter", "Vault processes that left to make room.", &one(counted.evicted));
    metric("vault_holds_total", "counter", "Times that a vault was held back.", &one(counted.held_back));
    let seconds = format!("{}.{:06}", counted.start_us / 1_000_000, counted.start_us % 1_000_000);
    metric(
        "vault_start_seconds_total",
        "counter",
        "Time until vault processes were up, summed.",
        &[(String::new(), seconds)],
    );
    if let Some(bytes) = status.memory_available_bytes {
        metric("memory_available_bytes", "gauge", "Memory that programs can still have.", &one(bytes));
    }
    if let Some(found) = &status.isolation {
        let missing = found.missing.len() as u64;
        metric("isolation_missing", "gauge", "Promises of isolation that do not hold.", &one(missing));
    }
    text
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Room for a row of each of many vaults.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use strongroom_client::wire::VaultId;
    use strongroom_client::wire::operate::{Counters, IsolationStatus};

    use super::*;

    fn status() -> HostStatus {
        let vault = |life| VaultLife {
            vault: VaultId([7; 16]),
            life,
            busy: life == Life::Unlocked,
            held_back: life == Life::Locked,
            channels: 2,
            pid: 9,
            since_secs: 61,
            used_secs: 1,
        };
        HostStatus {
            version: "1.2.3".into(),
            pid: 8,
            uptime_secs: 100,
            isolation: Some(IsolationStatus { level: "spaces".into(), missing: vec!["own_user".into()] }),
            vaults: 5,
            memory_available_bytes: Some(3 << 20),
            counters: Counters { started: 2, crashed: 1, evicted: 0, held_back: 6, start_us: 9_000 },
            running: vec![vault(Life::Locked), vault(Life::Unlocked)],
        }
    }

    #[test]
    fn metrics_count_and_name_nobody() {
        let text = metrics(&status());
        for line in [
            "strongroom_vaults 5",
            "strongroom_vault_processes{state=\"locked\"} 1",
            "strongroom_vault_processes{state=\"draining\"} 0",
            "strongroom_vault_processes_held_back 1",
            "strongroom_vault_holds_total 6",
            "strongroom_channels 4",
            "strongroom_vault_start_seconds_total 0.009000",
            "strongroom_isolation_missing 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains(&VaultId([7; 16]).to_string()));
        let kinds = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        let names: std::collections::BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        assert_eq!(kinds, names.len(), "each has its type");
    }

    #[test]
    fn a_status_is_shown_in_words() {
        let text = shown(&status());
        assert!(text.contains("spaces; missing: own_user"), "{text}");
        assert!(text.contains("2 started (4.5 ms on average), 1 crashed, 0 evicted, 6 held back"), "{text}");
        assert!(text.contains("unlocked") && text.contains("held back"), "{text}");
    }
}
