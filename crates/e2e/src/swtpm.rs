//! A software TPM: the chip of a machine in these tests. It keeps its seeds in a folder, as a chip does when it has no power.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::processes;

/// A software TPM that runs.
#[derive(Debug)]
pub struct Swtpm {
    state: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Swtpm {
    /// A new chip, switched on.
    ///
    /// # Panics
    /// When swtpm is not installed or does not start.
    #[must_use]
    pub fn new() -> Self {
        let mut tpm = Self { state: tempfile::tempdir().expect("a folder"), port: 0, process: None };
        tpm.switch_on();
        tpm
    }

    /// Its name for the TPM software stack.
    #[must_use]
    pub fn name(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The chip's own files.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.state.path().to_owned()
    }

    /// Switches the machine off and on: the registers begin anew.
    pub fn reboot(&mut self) {
        self.switch_off();
        self.switch_on();
    }

    /// Extends a register, as firmware does with what it starts. Nobody else may be connected.
    ///
    /// # Panics
    /// When the TPM refuses.
    pub fn extend(&self, register: u8, digest: [u8; 32]) {
        // TPM2_PCR_Extend (TPM 2.0 Part 3, section 22.2), with an empty password, for the SHA-256 bank.
        let mut command = vec![0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, register];
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend([0, 0, 0, 1, 0, 0x0b]);
        command.extend(digest);
        assert_eq!(command.len(), 65);
        let mut chip = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the TPM listens");
        chip.write_all(&command).expect("a command");
        let mut answer = [0; 19];
        chip.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[6..10], [0; 4], "the TPM refuses to extend a register");
    }

    fn switch_on(&mut self) {
        // A port that was free a moment ago may be taken; another is as good.
        let started = (0..10).any(|_| self.start());
        assert!(started, "swtpm does not start; it is Debian's package swtpm");
    }

    fn start(&mut self) -> bool {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        // The TPM software stack takes the next one for the chip's own switches.
        let Some(control) = port.checked_add(1).filter(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, *next)).is_ok())
        else {
            return false;
        };
        drop(free);
        let state = format!("dir={}", self.state.path().display());
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate", &state]);
        command.args(["--server", &format!("type=tcp,port={port}")]);
        command.args(["--ctrl", &format!("type=tcp,port={control}")]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is installed");
        let listens = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
        let up = processes::until(10, || listens() || child.try_wait().expect("our own child").is_some());
        if !up || child.try_wait().expect("our own child").is_some() {
            return false;
        }
        self.port = port;
        self.process = Some(child);
        true
    }

    fn switch_off(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Default for Swtpm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.switch_off();
    }
}
