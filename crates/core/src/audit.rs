//! Reading the log: pages, hashes, checkpoints and proofs. Reading is logged too, once a minute for each device.

use strongroom_wire::device::{AuditQuery, DeviceAnswer, EventProof, LoggedEvent};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::{Bytes, Code, DeviceId, Refusal, limits};

use crate::approvals::{Waiting, WaitingFor};
use crate::records::Storage;
use crate::vault::{Context, ReplyTo, Vault};

impl<S: Storage> Vault<S> {
    pub(crate) fn audit_list(
        &mut self,
        device: DeviceId,
        query: &AuditQuery,
        to: ReplyTo,
        cx: &mut Context<'_>,
    ) -> Result<Option<DeviceAnswer>, Refusal> {
        self.note_reading(device, cx)?;
        let (open, _) = self.opened()?;
        if query.from >= open.ledger.size() && query.wait_secs > 0 {
            let until_ticks_ms = cx.moment.ticks_ms + query.wait_secs.min(60) * 1_000;
            let what = WaitingFor::Log(query.from, query.count);
            open.waiting.push(Waiting { to, until_ticks_ms, what });
            return Ok(None);
        }
        self.audit_page(query.from, query.count).map(Some)
    }

    pub(crate) fn audit_page(&mut self, from: u64, count: u64) -> Result<DeviceAnswer, Refusal> {
        let (open, disk) = self.opened()?;
        let size = open.ledger.size();
        let count = count.min(limits::AUDIT_PAGE_MAX as u64).min(size.saturating_sub(from));
        let leaves = disk.leaves(from, count)?;
        let hashes = disk.leaf_hashes(from, count)?;
        if leaves.len() as u64 != count || hashes.len() as u64 != count {
            return Err(Refusal::new(Code::StoreRefused).detail("Events are missing from the log."));
        }
        let events = (from..)
            .zip(leaves.into_iter().zip(hashes))
            .map(|(index, (leaf, hash))| LoggedEvent { index, leaf: leaf.map(Bytes), hash: Bytes::from(hash) })
            .collect();
        Ok(DeviceAnswer::Audit { events, size })
    }

    pub(crate) fn audit_hashes(&mut self, from: u64, count: u64) -> Result<DeviceAnswer, Refusal> {
        let (open, disk) = self.opened()?;
        let count = count.min(HASHES_MAX).min(open.ledger.size().saturating_sub(from));
        let hashes = disk.leaf_hashes(from, count)?;
        Ok(DeviceAnswer::Hashes { hashes: Bytes(hashes.concat()) })
    }

    pub(crate) fn audit_checkpoint(&mut self, from_size: u64) -> Result<DeviceAnswer, Refusal> {
        let (open, disk) = self.opened()?;
        open.ledger.checkpoint(disk, &open.audit, from_size).map(DeviceAnswer::Checkpoint)
    }

    pub(crate) fn audit_prove(
        &mut self,
        device: DeviceId,
        index: u64,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        self.note_reading(device, cx)?;
        let vault = self.id;
        let identity =
            Bytes::from(*self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?.identity.as_bytes());
        let (open, disk) = self.opened()?;
        let inclusion = open.ledger.inclusion(disk, index)?;
        let leaf = disk.leaves(index, 1)?.pop().flatten().map(Bytes);
        let hash = disk.leaf_hashes(index, 1)?.pop().ok_or(Refusal::new(Code::StoreRefused))?;
        let checkpoint = open.ledger.checkpoint(disk, &open.audit, 0)?;
        Ok(DeviceAnswer::Proof(Box::new(EventProof {
            v: 1,
            vault,
            identity,
            event: LoggedEvent { index, leaf, hash: Bytes::from(hash) },
            inclusion,
            checkpoint,
        })))
    }

    fn note_reading(&mut self, device: DeviceId, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let ticks = cx.moment.ticks_ms;
        let (open, _) = self.opened()?;
        if open.live.log_read.get(&device).is_some_and(|at| *at + 60_000 > ticks) {
            return Ok(());
        }
        open.live_mut().log_read.insert(device, ticks);
        let event = self.event(Actor::Device(device), Action::LogRead, cx);
        self.log(event, cx).map(|_| ())
    }
}

/// Hashes on one page.
const HASHES_MAX: u64 = 16_384;
