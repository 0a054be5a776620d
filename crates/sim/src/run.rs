//! One seed: a random day of devices, guests, an unreliable machine and a hostile host, and what must hold after each step.

mod coverage;
mod devices;
mod guests;
mod host;
mod model;
mod things;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use coverage::{CODES, Coverage};

use crate::world::{Answer, World, json};
use model::Model;

/// What a seed came to.
pub struct Ran {
    /// What was reached.
    pub coverage: Coverage,
    /// The invariant that did not hold: its number, and what happened at which step.
    pub broken: Option<String>,
}

/// Runs one seed.
pub fn run(seed: u64) -> Ran {
    let mut sim = match catch_unwind(AssertUnwindSafe(|| Sim::new(seed))) {
        Ok(sim) => sim,
        Err(panic) => return Ran { coverage: Coverage::default(), broken: Some(said(&panic)) },
    };
    let played = catch_unwind(AssertUnwindSafe(|| sim.play()));
    sim.coverage.met_faults(&sim.world.memory.faults_met());
    let broken = match played {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(format!("step {}, {}: {broken}", sim.step, sim.doing)),
        Err(panic) => Some(format!("step {}, {}: 11: {}", sim.step, sim.doing, said(&panic))),
    };
    Ran { coverage: sim.coverage, broken }
}

fn said(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

/// A check of an invariant: its number comes first in what is said when it does not hold.
pub(crate) type Check = Result<(), String>;

/// Answers with an error where an invariant does not hold.
macro_rules! holds {
    ($number:literal, $what:expr, $($said:tt)+) => {
        if !$what {
            return Err(format!(concat!($number, ": {}"), format!($($said)+)));
        }
    };
}
pub(crate) use holds;

/// A seed that runs.
pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) model: Model,
    pub(crate) coverage: Coverage,
    step: u32,
    doing: &'static str,
    /// Steps until a fault is mended.
    pub(crate) mend_in: u32,
    /// How far the host's clock was set back, in milliseconds.
    pub(crate) set_back_ms: u64,
    /// What the fake consumers had been shown before this step.
    pub(crate) shown: usize,
    /// How many devices are in at most.
    pub(crate) devices_at_most: usize,
    /// Whether this step may use a secret.
    pub(crate) may_show: bool,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut world = World::new(&format!("seed {seed}"));
        let (mut passphrase, mut phrase) = (world.passphrase(), world.phrase());
        let device = world.create(&mut passphrase, &mut phrase).expect("a vault is made on a disk that works");
        let model = Model::new(device, passphrase, phrase, &world);
        Self {
            world,
            model,
            coverage: Coverage::default(),
            step: 0,
            doing: "making the vault",
            mend_in: 0,
            set_back_ms: 0,
            shown: 0,
            devices_at_most: if seed % 20 == 7 { 6 } else { 2 + usize::from(seed.is_multiple_of(2)) },
            may_show: false,
        }
    }

    fn play(&mut self) -> Check {
        self.doing = "settling in";
        self.settle_in()?;
        let steps = 60 + self.world.rng.below(91);
        for _ in 0..steps {
            self.step += 1;
            self.may_show = false;
            self.one_step()?;
            self.after_step()?;
        }
        self.doing = "coming back at the end";
        self.recover()?;
        self.audit()?;
        self.nothing_leaks()?;
        if self.world.rng.chance(10) { self.delete() } else { Ok(()) }
    }

    /// A day does not begin with an empty vault.
    fn settle_in(&mut self) -> Check {
        for _ in 0..5 {
            self.add_item()?;
        }
        for _ in 0..2 {
            self.enrol_guest()?;
        }
        for _ in 0..6 {
            self.give_grant()?;
        }
        for _ in 1..self.devices_at_most {
            self.add_device()?;
        }
        self.after_step()
    }

    fn one_step(&mut self) -> Check {
        if self.world.memory.is_dead() {
            self.doing = "restarting a dead machine";
            return self.restart();
        }
        if self.mend_in > 0 {
            self.mend_in -= 1;
            if self.mend_in == 0 {
                self.world.memory.mend();
            }
        }
        let ready = self.may_act(0);
        if !ready && self.is_well() && self.world.rng.chance(50) {
            self.doing = "coming back";
            return self.recover();
        }
        if !self.model.doubts.is_empty() {
            // What nobody was answered is looked at before anything rests on it.
            if ready && self.is_well() {
                self.doing = "looking at what is in doubt";
                return self.audit();
            }
            if self.is_open() {
                self.doing = "a crash";
                return self.restart();
            }
        }
        let roll = self.world.rng.below(1_000);
        self.doing = match roll {
            0..40 => "unlocking",
            40..50 => "locking",
            50..65 => "a wrong factor",
            65..95 => "a session",
            95..135 => "adding an item",
            135..190 => "changing an item",
            190..198 => "removing an item",
            198..213 => "enrolling a guest",
            213..233 => "suspending a guest",
            233..237 => "throwing a guest out",
            237..310 => "giving a grant",
            310..322 => "ending a grant",
            322..400 => "answering a question",
            400..430 => "the member's own use",
            430..436 => "replaying a factor",
            436..440 => "two devices at once",
            440..446 => "a device more",
            446..452 => "throwing a device out",
            452..458 => "a way to unlock",
            458..470 => "showing an older credential",
            470..740 => "a guest's use",
            740..790 => "a guest's handle",
            790..800 => "a guest's wish",
            800..850 => "an exchange that ends",
            850..880 => "time",
            880..892 => "reading the log",
            892..922 => "a bad request",
            922..940 => "a fault of the disk",
            940..970 => "a death to come",
            970..982 => "a crash",
            982..990 => "a hostile host",
            _ => "a clock that is set back",
        };
        match self.doing {
            "unlocking" => self.unlock(),
            "locking" => self.lock(),
            "a wrong factor" => self.wrong_factor(),
            "a session" => self.session(),
            "adding an item" => self.add_item(),
            "changing an item" => self.change_item(),
            "removing an item" => self.remove_item(),
            "enrolling a guest" => self.enrol_guest(),
            "suspending a guest" => self.suspend(),
            "throwing a guest out" => self.revoke_guest(),
            "giving a grant" => self.give_grant(),
            "ending a grant" => self.end_grant(),
            "answering a question" => self.answer_question(),
            "the member's own use" => self.own_use(),
            "replaying a factor" => self.replay(),
            "two devices at once" => self.two_at_once(),
            "a device more" => self.add_device(),
            "throwing a device out" => self.revoke_device(),
            "a way to unlock" => self.slots(),
            "showing an older credential" => self.show_older(),
            "a guest's use" => self.guest_use(),
            "a guest's handle" => self.guest_handle(),
            "a guest's wish" => self.guest_wish(),
            "an exchange that ends" => self.end_exchange(),
            "time" => self.pass_time(),
            "reading the log" => self.audit(),
            "a bad request" => self.bad_request(),
            "a fault of the disk" => self.disk_fault(),
            "a death to come" => self.death(),
            "a crash" => self.restart(),
            "a hostile host" => self.hostile(),
            _ => self.set_clock_back(),
        }
    }

    /// What must hold after each step, whatever it was.
    fn after_step(&mut self) -> Check {
        self.coverage.effects(&self.world.told);
        self.world.told.clear();
        self.world.late.clear();
        // 3: the log only grows.
        let known = self.model.log.len();
        let durable = self.world.memory.durable_hashes(0);
        holds!(3, durable.len() >= known || self.world.memory.is_dead(), "the log lost events");
        let kept = known.min(durable.len());
        holds!(3, durable[..kept] == self.model.log[..kept], "the log's past changed");
        if !self.world.memory.is_dead() {
            self.model.log = durable;
        }
        // 8: no consumer runs but for a use that was allowed.
        let shown = self.world.fakes.shown.len();
        holds!(8, shown == self.shown || self.may_show, "a consumer was shown a secret");
        self.shown = shown;
        let open = self.world.vault.as_ref().is_ok_and(strongroom_core::Vault::is_open);
        if !open {
            self.model.closed();
        }
        Ok(())
    }

    /// Whether the machine does what it should, so that what is refused must be refused by a rule.
    pub(crate) fn is_well(&self) -> bool {
        !self.world.memory.is_faulty()
    }

    /// How many events are durable.
    pub(crate) fn durable(&self) -> usize {
        self.world.memory.durable_size()
    }

    /// Looks at an answer: counts it, and checks that no plaintext is in it.
    pub(crate) fn look_at(&mut self, answer: &Answer) -> Check {
        self.coverage.answer(answer);
        let text = match answer {
            Answer::Device(Ok(strongroom_wire::device::DeviceAnswer::Delivered { .. })) => return Ok(()),
            Answer::Device(Ok(answer)) => json(answer),
            Answer::Guest(Ok(answer)) => json(answer),
            Answer::Device(Err(refusal)) | Answer::Guest(Err(refusal)) => json(refusal),
            Answer::Http(run) => json(&run.0.call),
            Answer::Later(_) => return Ok(()),
        };
        holds!(12, !model::leaks(text.as_bytes()), "plaintext left in {text}");
        Ok(())
    }

    /// No secret lies in any file in the clear.
    fn nothing_leaks(&mut self) -> Check {
        let mut files = self.world.memory.copy();
        for file in files.headers.iter().flatten().chain(files.chains.values()).chain([&files.tail]) {
            holds!(12, !model::leaks(file), "plaintext in a file");
        }
        if let Some(database) = &mut files.database {
            for ((table, _), record) in database.records().iter() {
                holds!(12, !model::leaks(record), "plaintext in {table:?}");
            }
            for leaf in database.leaves().iter().flatten() {
                holds!(12, !model::leaks(leaf), "plaintext in the log");
            }
        }
        Ok(())
    }
}
