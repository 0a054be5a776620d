//! What a person waits for: unlock, a command, the start of the server.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use strongroom_client::crypto::factor::{FactorRoot, KdfParams};
use strongroom_client::crypto::os_rng;
use strongroom_client::wire::device::DeviceRequest;
use strongroom_client::wire::relay::RelayHello;
use strongroom_client::{Session, channel, open};
use strongroom_e2e::{PASSPHRASE, processes};

use crate::Outcome;
use crate::crowd;
use crate::figure::Figure;
use crate::machine::{Machine, Passphrase};
use crate::times::{Times, timed};

/// On a machine with an open vault of 100 items.
pub(crate) fn figures(machine: &mut Machine) -> Outcome<Vec<Figure>> {
    let params = KdfParams::generate(&mut os_rng());
    let stretch = Times::of(15, |_| {
        FactorRoot::from_passphrase(PASSPHRASE, &params)?;
        Ok(())
    })?;
    let unlock = unlock(machine)?;
    let mut figures = vec![
        Figure::new("unlock, key derivation included", unlock.median_ms(), "ms")
            .beside("Argon2id alone", stretch.median_ms())
            .at_most(300.0)
            .else_because("Nearly all of it is Argon2id, whose cost the format fixes."),
    ];

    let floor = Times::of(STARTS, |_| {
        let output = crowd::program()?.arg("print").stdin(Stdio::null()).output()?;
        if output.stdout == b"floor\n" { Ok(()) } else { Err("the floor's program prints something else".into()) }
    })?;
    for (args, most) in [(&["status"][..], 15.0), (&["item", "list"], 15.0), (&["--version"], 3.0)] {
        let times = Times::of(STARTS, |_| {
            let output = machine.command(args).output()?;
            let printed = output.status.success() && !output.stdout.is_empty();
            if printed { Ok(()) } else { Err(format!("strongroom {}: {}", args.join(" "), output.status).into()) }
        })?;
        figures.push(
            Figure::new(format!("strongroom {}, start to end, median", args.join(" ")), times.median_ms(), "ms")
                .beside("a process that prints a line", floor.median_ms())
                .at_most(most)
                .else_because(
                    "Beside the start of the program: the profile's files, the channel's handshake, and the answer.",
                ),
        );
    }
    figures.push(server(machine)?.beside("two processes that print a line", 2.0 * floor.median_ms()).at_most(29.0));
    Ok(figures)
}

fn unlock(machine: &Machine) -> Outcome<Times> {
    let mut took = Vec::new();
    for _ in 0..15 {
        let mut passphrase = Passphrase;
        Session::new(&machine.profile, &mut passphrase).ask(&DeviceRequest::Lock {})?;
        took.push(timed(|| Ok(open::open(&mut Session::new(&machine.profile, &mut passphrase), None)?))?.0);
    }
    Ok(Times::from(took))
}

/// From the start of `serve` to the first answer, which is that of the services. The vault is open again afterwards.
fn server(machine: &mut Machine) -> Outcome<Figure> {
    machine.place.stop();
    let mut took = Vec::new();
    for _ in 0..20 {
        let (start, mut server) = timed(|| {
            let server = machine.place.serve_command(&[]).spawn()?;
            while channel::ask_server(&machine.place.socket(), &RelayHello::Ping {}).is_err() {
                thread::sleep(Duration::from_micros(100));
            }
            Ok(server)
        })?;
        took.push(start);
        processes::terminate(server.id());
        server.wait()?;
    }
    machine.place.serve(&[]);
    let mut passphrase = Passphrase;
    open::open(&mut Session::new(&machine.profile, &mut passphrase), None)?;
    Ok(Figure::new("server start to first answer, median", Times::from(took).median_ms(), "ms"))
}

const STARTS: usize = 200;
