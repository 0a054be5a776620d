//! How long a small request takes through client, services, bus, host, vault process and back. Ignored: run it alone, in
//! release, with `--ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "it measures")]
#![allow(clippy::print_stdout, reason = "the figures are the point")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_wire::frame::with_length;
use strongroom_wire::relay::RelayHello;

const MESSAGE_BYTES: usize = 300;

#[test]
#[ignore = "a measurement"]
fn latency_of_an_echo_in_three_processes() {
    let root = tempfile::tempdir().unwrap();
    let mut server =
        Command::new(common::fixture()).arg("serve").arg(root.path()).stderr(Stdio::null()).spawn().unwrap();
    let outcome = std::panic::catch_unwind(|| measure(root.path(), &mut None));
    server.kill().unwrap();
    server.wait().unwrap();
    outcome.unwrap();
}

fn measure(root: &Path, _: &mut Option<Child>) {
    let path = common::socket(root);
    while UnixStream::connect(&path).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vault = runtime.block_on(common::new_vault(root)).unwrap();
    let connect = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        let hello = serde_json::to_vec(&RelayHello::Relay { vault }).unwrap();
        stream.write_all(&with_length(&hello)).unwrap();
        receive(&mut stream);
        stream
    };
    let mut message = vec![0; MESSAGE_BYTES];
    message[0] = b'E';
    let message = with_length(&message);

    let started = Instant::now();
    let mut stream = connect();
    stream.write_all(&message).unwrap();
    receive(&mut stream);
    println!("cold start to first echo: {:?}", started.elapsed());

    let mut times: Vec<Duration> = (0..20_000)
        .map(|_| {
            let started = Instant::now();
            stream.write_all(&message).unwrap();
            receive(&mut stream);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("echo of {MESSAGE_BYTES} bytes, one at a time: p50 {:?}, p99 {:?}", times[10_000], times[19_800]);

    let (mut near, mut far) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        loop {
            receive(&mut far);
            if far.write_all(&with_length(&[0; MESSAGE_BYTES])).is_err() {
                return;
            }
        }
    });
    let mut floor: Vec<Duration> = (0..20_000)
        .map(|_| {
            let started = Instant::now();
            near.write_all(&message).unwrap();
            receive(&mut near);
            started.elapsed()
        })
        .collect();
    floor.sort_unstable();
    println!("floor, one socket instead of three: p50 {:?}, p99 {:?}", floor[10_000], floor[19_800]);

    for (connections, in_flight) in [(16, 1), (16, 32)] {
        let rounds = 40_000 / connections / in_flight;
        let batch = message.repeat(in_flight);
        let streams: Vec<UnixStream> = (0..connections).map(|_| connect()).collect();
        let started = Instant::now();
        std::thread::scope(|scope| {
            for mut stream in streams {
                let batch = &batch;
                scope.spawn(move || {
                    let mut answer = vec![0; batch.len()];
                    for _ in 0..rounds {
                        stream.write_all(batch).unwrap();
                        stream.read_exact(&mut answer).unwrap();
                    }
                });
            }
        });
        let count = u32::try_from(rounds * connections * in_flight).unwrap();
        let rate = f64::from(count) / started.elapsed().as_secs_f64();
        println!("{connections} connections, {in_flight} in flight each: {rate:.0} messages/s");
    }
}

fn receive(stream: &mut UnixStream) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut rest = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut rest).unwrap();
}
