//! The tunnels of one vault process, and what it may do with them.

use std::collections::HashMap;
use std::sync::Arc;

use strongroom_bus::framed::Outbox;
use strongroom_wire::host::{ToVault, TunnelTo};
use strongroom_wire::{Code, limits};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::process::{Misbehaved, OUTBOX_BYTES_HIGH};
use crate::resolve::Resolver;
use crate::tunnel::{Credit, Tunnel, Up};

/// The tunnels of one process. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Tunnels {
    open: HashMap<u32, Entry>,
    last: u32,
    refused_in_a_row: u32,
    tasks: JoinSet<u32>,
    outbox: Outbox,
    resolver: Resolver,
}

#[derive(Debug)]
struct Entry {
    up: mpsc::UnboundedSender<Up>,
    ended: bool,
    up_credit: Arc<Credit>,
    down_credit: Arc<Credit>,
    task: AbortHandle,
}

impl Tunnels {
    pub(crate) fn new(outbox: Outbox, resolver: Resolver) -> Self {
        Self { open: HashMap::new(), last: 0, refused_in_a_row: 0, tasks: JoinSet::new(), outbox, resolver }
    }

    /// The vault wants a tunnel. Its numbers count up.
    pub(crate) fn open(&mut self, id: u32, to: TunnelTo) -> Result<(), Misbehaved> {
        if id <= self.last {
            return Err(Misbehaved("tunnel_number_reused"));
        }
        self.last = id;
        // A vault that does not read its answers gets no further connections made.
        if self.open.len() >= limits::TUNNELS_MAX || self.outbox.waiting() >= OUTBOX_BYTES_HIGH {
            self.refused_in_a_row += 1;
            if self.refused_in_a_row > REFUSED_IN_A_ROW_MAX {
                return Err(Misbehaved("tunnels_without_end"));
            }
            let refused = ToVault::TunnelFailed(id, Code::Busy.into()).encode();
            return self.outbox.push(&[&refused]).map_err(|_| Misbehaved("does_not_read"));
        }
        self.refused_in_a_row = 0;
        let (up, from_vault) = mpsc::unbounded_channel();
        let (up_credit, down_credit) = (Credit::new(), Credit::new());
        let tunnel = Tunnel {
            id,
            outbox: self.outbox.clone(),
            up: from_vault,
            up_credit: Arc::clone(&up_credit),
            down_credit: Arc::clone(&down_credit),
        };
        let resolver = self.resolver.clone();
        let task = self.tasks.spawn(async move {
            tunnel.run(to, resolver).await;
            id
        });
        self.open.insert(id, Entry { up, ended: false, up_credit, down_credit, task });
        Ok(())
    }

    pub(crate) fn data(&mut self, id: u32, bytes: Vec<u8>) -> Result<(), Misbehaved> {
        let Some(entry) = self.entry(id)? else { return Ok(()) };
        if entry.ended {
            return Err(Misbehaved("tunnel_data_after_end"));
        }
        if !entry.up_credit.spend(bytes.len()) {
            return Err(Misbehaved("tunnel_data_without_credit"));
        }
        if !bytes.is_empty() {
            // A tunnel that has just ended needs it no more.
            let _ = entry.up.send(Up::Data(bytes));
        }
        Ok(())
    }

    pub(crate) fn credit(&mut self, id: u32, bytes: u32) -> Result<(), Misbehaved> {
        match self.entry(id)? {
            Some(entry) if !entry.down_credit.grant(bytes) => Err(Misbehaved("tunnel_credit_too_large")),
            _ => Ok(()),
        }
    }

    pub(crate) fn end(&mut self, id: u32) -> Result<(), Misbehaved> {
        if let Some(entry) = self.entry(id)? {
            entry.ended = true;
            // As in `data`.
            let _ = entry.up.send(Up::End);
        }
        Ok(())
    }

    pub(crate) fn close(&mut self, id: u32) -> Result<(), Misbehaved> {
        if self.entry(id)?.is_some()
            && let Some(entry) = self.open.remove(&id)
        {
            entry.task.abort();
        }
        Ok(())
    }

    /// Waits for a tunnel to end, for ever where there is none. To be called in a loop: it clears up.
    pub(crate) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(id)) => drop(self.open.remove(&id)),
            // Closed by the vault, and forgotten then.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// The tunnel of this number, or `None` for one that is gone already: the two messages crossed.
    fn entry(&mut self, id: u32) -> Result<Option<&mut Entry>, Misbehaved> {
        if id == 0 || id > self.last {
            return Err(Misbehaved("tunnel_unknown"));
        }
        Ok(self.open.get_mut(&id))
    }
}

/// Tunnels refused in a row before the vault counts as misbehaving.
const REFUSED_IN_A_ROW_MAX: u32 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostConfig;
    use strongroom_wire::limits::STREAM_WINDOW_BYTES;

    fn tunnels() -> Tunnels {
        let resolver = Resolver::new(Arc::new(HostConfig::new("data", "shares", "program")));
        Tunnels::new(Outbox::new(1 << 20, 1 << 30), resolver)
    }

    fn to() -> TunnelTo {
        TunnelTo { to: "127.0.0.1:9".parse().expect("a destination"), allow_private: true }
    }

    #[tokio::test]
    async fn what_a_vault_may_do_with_a_tunnel() {
        let mut tunnels = tunnels();
        assert_eq!(tunnels.data(1, vec![0]), Err(Misbehaved("tunnel_unknown")));
        tunnels.open(5, to()).expect("numbers may be skipped");
        assert_eq!(tunnels.open(5, to()), Err(Misbehaved("tunnel_number_reused")));
        assert_eq!(tunnels.open(4, to()), Err(Misbehaved("tunnel_number_reused")));
        tunnels.data(5, vec![0; STREAM_WINDOW_BYTES as usize]).expect("a whole window");
        assert_eq!(tunnels.data(5, vec![0]), Err(Misbehaved("tunnel_data_without_credit")));
        tunnels.credit(5, STREAM_WINDOW_BYTES).expect("as much again");
        assert_eq!(tunnels.credit(5, u32::MAX), Err(Misbehaved("tunnel_credit_too_large")));
        tunnels.end(5).expect("once");
        assert_eq!(tunnels.data(5, Vec::new()), Err(Misbehaved("tunnel_data_after_end")));
        tunnels.close(5).expect("open");
        tunnels.data(5, vec![0]).expect("gone already: the messages crossed");
        assert_eq!(tunnels.end(6), Err(Misbehaved("tunnel_unknown")));
    }

    #[tokio::test]
    async fn tunnels_are_counted() {
        let mut tunnels = tunnels();
        let max = u32::try_from(limits::TUNNELS_MAX).expect("small");
        for id in 1..=max + REFUSED_IN_A_ROW_MAX {
            tunnels.open(id, to()).expect("opened or refused");
        }
        assert_eq!(tunnels.open.len(), limits::TUNNELS_MAX);
        assert_eq!(tunnels.open(u32::MAX, to()), Err(Misbehaved("tunnels_without_end")));
    }
}
