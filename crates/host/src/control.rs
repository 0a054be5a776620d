//! The operator's socket: `host.sock` in the data folder, for this host's user alone. One line of JSON in, one out.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use strongroom_bus::log;
use strongroom_wire::operate::{HostRequest, HostStatus};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Where the operator's socket of a data folder lies.
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("host.sock")
}

/// Binds the socket. Whoever holds the data folder's lock may take the place of one that a killed host left.
pub(crate) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let path = control_socket(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // The folder is this user's alone already.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the host is gone.
pub(crate) async fn serve(listener: UnixListener, status: impl Fn() -> HostStatus + Clone + Send + 'static) {
    let places = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: somebody will give one back.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let status = status.clone();
        tokio::spawn(async move {
            let _place = place;
            if !matches!(timeout(PATIENCE, answer(stream, status)).await, Ok(Ok(()))) {
                log::info("operator_gone", &[]);
            }
        });
    }
}

async fn answer(stream: UnixStream, status: impl Fn() -> HostStatus) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    BufReader::new(read.take(REQUEST_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    let mut answer = match serde_json::from_slice(&line) {
        Ok(HostRequest::Status {}) => serde_json::to_vec(&status())?,
        Err(_) => br#"{"error":"the request cannot be read"}"#.to_vec(),
    };
    answer.push(b'\n');
    write.write_all(&answer).await
}

const CALLERS_MAX: usize = 16;
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
