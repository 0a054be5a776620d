//! Where things lie on this machine, where nothing says otherwise.
//!
//! | | for a user | for root |
//! | --- | --- | --- |
//! | vaults | `$XDG_DATA_HOME/strongroom` | `/var/lib/strongroom` |
//! | host shares | `$XDG_STATE_HOME/strongroom-shares` | `/var/lib/strongroom-shares` |
//! | socket | `$XDG_RUNTIME_DIR/strongroom/strongroom.sock` | `/run/strongroom/strongroom.sock` |

use std::path::{Path, PathBuf};

use directories::BaseDirs;

/// Where a server keeps its vaults.
pub(crate) fn data() -> PathBuf {
    own(|dirs| dirs.data_dir().join("strongroom")).unwrap_or_else(|| PathBuf::from("/var/lib/strongroom"))
}

/// Where a server keeps the host shares: outside of the data, so that a copy of one is of no use without the other.
pub(crate) fn shares() -> PathBuf {
    own(|dirs| dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).join("strongroom-shares"))
        .unwrap_or_else(|| PathBuf::from("/var/lib/strongroom-shares"))
}

/// Where a server of this user listens.
pub(crate) fn server_socket() -> PathBuf {
    own(|dirs| {
        let folder = dirs.runtime_dir().or_else(|| dirs.state_dir()).unwrap_or_else(|| dirs.data_local_dir());
        folder.join("strongroom").join("strongroom.sock")
    })
    .unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKET))
}

/// Where a client looks: this user's own server, unless only the system's is there.
pub(crate) fn client_socket() -> PathBuf {
    let own = server_socket();
    let system = Path::new(SYSTEM_SOCKET);
    if !own.exists() && system.exists() { system.to_owned() } else { own }
}

fn own(place: impl FnOnce(&BaseDirs) -> PathBuf) -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    BaseDirs::new().map(|dirs| place(&dirs))
}

const SYSTEM_SOCKET: &str = "/run/strongroom/strongroom.sock";
