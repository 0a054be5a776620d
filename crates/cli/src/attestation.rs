//! Which machines a device trusts with what unlocks its vault.

use std::path::Path;
use std::time::Duration;

use strongroom_client::ClientError;
use strongroom_client::attest::{NotAllowed, Policy};
use strongroom_client::channel::ConnectError;
use strongroom_client::crypto::channel::ChannelError;
use strongroom_client::profile::Profile;
use strongroom_client::rescue::Rescue;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest};
use strongroom_client::wire::limits::ATTESTATION_POLICY_BYTES_MAX;
use strongroom_client::wire::{Bytes, Code};

use crate::app::{App, unexpected};
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::prompt;

/// Reads a policy from a file; `-` is standard input.
pub(crate) fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let bytes = prompt::read_all(path, ATTESTATION_POLICY_BYTES_MAX as u64)?;
    Policy::decode(&bytes).map_err(|error| {
        Failure::new(Exit::Usage, OwnCode::AttestationRefused, format!("{}: {error}", path.display()))
            .hint("a policy is what another device prints: strongroom vault attestation --json")
    })
}

/// Runs `vault attestation`: with `--json`, prints the policy as `create --policy` reads it.
pub(crate) fn show(app: &App) -> Result<(), Failure> {
    let profile = app.profile()?;
    let policy = profile.policy()?;
    app.out.result(&policy, || text(&policy))?;
    if policy != (Policy::None {}) {
        let mut prompter = app.prompter();
        // Its evidence is appraised before anything else is.
        Session::new(&profile, &mut prompter).connect()?;
        app.out.note("The machine that answers is one of them.");
    }
    Ok(())
}

/// Runs `vault update`.
pub(crate) fn update(app: &App, expect: Option<[u8; 32]>, yes: bool) -> Result<(), Failure> {
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    let asker = prompter.clone();
    let mut session = Session::new(&profile, &mut prompter);
    let answer = match session.ask(&DeviceRequest::Status {}) {
        Err(ClientError::Connect(ConnectError::NotTrusted(NotAllowed::Program { program }))) => {
            return follow(app, &profile, program, expect, yes);
        }
        answer => answer?,
    };
    let DeviceAnswer::Status(status) = answer else { return Err(unexpected()) };
    let Some(program) = status.update.as_ref().and_then(Bytes::to_array::<32>) else {
        return app.out.done("Nothing to agree to: the vault runs the program that is installed.");
    };
    let bytes = Bytes::from(program);
    as_expected(program, expect)?;
    let runs = session.program().map_or_else(|| "unknown".to_owned(), |program| hex(&Bytes::from(program)));
    app.out.note(&format!("The vault runs\n  {runs}\nInstalled is\n  {}", hex(&bytes)));
    asker.confirm("Let the installed program have the vault from now on? It locks for a moment.", yes)?;
    let before = profile.policy()?;
    let mut both = before.clone();
    both.allow_program(program).map_err(|error| Failure::local("the policy", &error))?;
    // Before the vault is told: afterwards this device must know it.
    profile.store_policy(&both)?;
    if let Err(refused) = session.ask(&DeviceRequest::UpdateAccept { program: bytes }) {
        profile.store_policy(&before)?;
        return Err(refused.into());
    }
    for _ in 0..UPDATE_LOOKS {
        std::thread::sleep(UPDATE_LOOK);
        session.disconnect();
        // It is on its way out, or not there yet.
        let runs = session.connect().is_ok()
            && match session.program() {
                Some(runs) => runs == program,
                // This device appraises nothing: the vault's own word is what there is.
                None => {
                    matches!(session.ask(&DeviceRequest::Status {}), Ok(DeviceAnswer::Status(now)) if now.update.is_none())
                }
            };
        if runs {
            return app.out.done("The vault runs the installed program. Other devices have to agree for themselves: strongroom vault update");
        }
    }
    Err(Failure::new(Exit::Unreachable, Code::HostFailed, "the vault did not come back with the installed program")
        .hint("look at the output of strongroom serve; what was agreed to stands: strongroom status"))
}

/// Another device agreed to the program that runs; this one does as well, or not.
fn follow(app: &App, profile: &Profile, program: [u8; 32], expect: Option<[u8; 32]>, yes: bool) -> Result<(), Failure> {
    as_expected(program, expect)?;
    app.out.note(&format!("The vault runs\n  {}\nwhich this device has not agreed to.", hex(&Bytes::from(program))));
    app.prompter().confirm("Did you agree to it on another device, and shall this one trust it?", yes)?;
    let mut policy = profile.policy()?;
    policy.allow_program(program).map_err(|error| Failure::local("the policy", &error))?;
    profile.store_policy(&policy)?;
    app.out.done("This device trusts it. Next: strongroom status")
}

fn as_expected(program: [u8; 32], expect: Option<[u8; 32]>) -> Result<(), Failure> {
    if expect.is_none_or(|expected| expected == program) {
        return Ok(());
    }
    let message = format!("the vault program is not the one expected; it is {}", hex(&Bytes::from(program)));
    Err(Failure::new(Exit::Refused, OwnCode::HostNotTrusted, message)
        .hint("compare with measurements.json of the release; do not agree to it"))
}

/// Runs `vault rescue`: shows the machine, has the member agree to it, and brings the vault back.
pub(crate) fn rescue(app: &App, by_phrase: bool, other_machine: bool, yes: bool) -> Result<(), Failure> {
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    let has_share = profile.sealed_share()?.is_some();
    if !by_phrase && !has_share {
        return Err(Failure::new(Exit::Refused, Code::ShareMissing, "this device keeps no copy of the host share")
            .hint("strongroom vault rescue --phrase, or from a device that keeps one"));
    }
    let rescue = Rescue::begin(&profile).map_err(|error| match error {
        ClientError::Connect(ConnectError::Channel(ChannelError::Founded)) => Failure::new(
            Exit::Refused,
            Code::Conflict,
            "the host has the share of this vault: there is nothing to bring back",
        )
        .hint("strongroom unlock"),
        error => error.into(),
    })?;
    let known = profile.policy()?;
    let machine = rescue.machine().cloned().unwrap_or(Policy::None {});
    let pinned = known != (Policy::None {});
    if machine == known && pinned {
        app.out.note("The machine is the one that this device knows, started as it was.");
    } else {
        let evidence = match &machine {
            Policy::None {} => "It shows no evidence of its hardware.".to_owned(),
            shown => text(shown),
        };
        if pinned && !other_machine {
            let message = "ALARM: the machine that says it has the vault's files is not the one that this device knows, or did not start as it did. Nothing was sent";
            app.out.note(&evidence);
            return Err(Failure::new(Exit::Alarm, OwnCode::HostNotTrusted, message)
                .hint("only if you moved the vault, or changed the machine, yourself: --other-machine"));
        }
        app.out.note(&format!("The machine that says it has the vault's files:\n{evidence}\nGo on only if you know that it is yours, and who runs it."));
        prompter.confirm("Bring the vault back on it?", yes)?;
    }
    let brought = if by_phrase {
        prompter.phrase = true;
        let phrase = prompter.phrase_root()?;
        rescue.with_phrase(&phrase)?
    } else {
        rescue.with_share()?
    };
    // The vault process is replaced by one that can prove itself.
    for _ in 0..UPDATE_LOOKS {
        if brought.prove().is_ok() {
            return app.out.done("The vault is back, and locked. Next: strongroom unlock");
        }
        std::thread::sleep(UPDATE_LOOK);
    }
    Err(Failure::new(Exit::Unreachable, Code::HostFailed, "the vault did not come back")
        .hint("look at the output of strongroom serve, then: strongroom status"))
}

/// Runs `vault unattended`.
pub(crate) fn unattended(app: &App, on: bool, yes: bool) -> Result<(), Failure> {
    if on {
        app.out.note("The vault will open by itself whenever its machine starts as it did now. Whoever controls that machine can open it then.");
        app.prompter().confirm("Switch unattended unlock on?", yes)?;
    }
    match app.ask(&DeviceRequest::UnattendedSet { on })? {
        DeviceAnswer::Done {} if on => {
            app.out.done("On. Guests find the vault open after a restart; strongroom lock keeps it locked.")
        }
        DeviceAnswer::Done {} => app.out.done("Off."),
        _ => Err(unexpected()),
    }
}

/// A SHA-256 in hexadecimal.
pub(crate) fn parse_digest(text: &str) -> Result<[u8; 32], String> {
    let digest =
        data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    digest.ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

fn text(policy: &Policy) -> String {
    match policy {
        Policy::None {} => {
            "This device trusts whatever machine runs the vault: the vault was made on one that shows no evidence.\n\
             What that is worth: docs/sealing.md"
                .to_owned()
        }
        Policy::Tpm { key, boot, programs } => {
            let mut text = format!("This device trusts one machine, by its TPM\n  attestation key  {}\n", hex(key));
            for state in boot {
                let registers: Vec<String> = state.keys().map(ToString::to_string).collect();
                text.push_str(&format!("started as in registers {}\n", registers.join(", ")));
                for (register, value) in state {
                    text.push_str(&format!("  {register:>2}  {}\n", hex(value)));
                }
            }
            text.push_str("running the vault program\n");
            for program in programs {
                text.push_str(&format!("  {}\n", hex(program)));
            }
            text.trim_end().to_owned()
        }
        Policy::Nitro { pcrs } => {
            let mut text = "This device trusts AWS Nitro enclaves with\n".to_owned();
            for (register, values) in pcrs {
                for value in values {
                    text.push_str(&format!("  {register:>2}  {}\n", hex(value)));
                }
            }
            text.trim_end().to_owned()
        }
    }
}

pub(crate) fn hex(bytes: &Bytes) -> String {
    data_encoding::HEXLOWER.encode(&bytes.0)
}

/// How long the vault may take to come back: looks, and the time between them.
const UPDATE_LOOKS: u32 = 100;
const UPDATE_LOOK: Duration = Duration::from_millis(200);
