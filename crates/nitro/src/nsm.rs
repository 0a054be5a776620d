//! Asks the Nitro security module for attestation documents: inside an enclave, over its device. Left out: what a document
//! is worth, which is appraised where trust is needed, and the module's other requests: no PCR is extended here.

use std::{fs::File, io, os::fd::AsRawFd as _};

use aws_nitro_enclaves_nsm_api::{
    api::{ErrorCode, Request, Response},
    driver::nsm_process_request,
};
use serde_bytes::ByteBuf;

/// The longest document, in bytes: what the module's driver has room for.
pub const DOCUMENT_BYTES_MAX: usize = 0x3000;
/// The longest user data, in bytes, that the module takes.
pub const USER_DATA_BYTES_MAX: usize = 512;
/// The longest nonce.
pub const NONCE_BYTES_MAX: usize = 512;
/// The longest public key.
pub const PUBLIC_KEY_BYTES_MAX: usize = 1024;

/// What makes attestation documents of the enclave it runs in.
pub trait Nsm {
    /// A document that carries what is given: a `COSE_Sign1`, of at most [`DOCUMENT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// When a part is too long, or the module makes none.
    fn document(
        &self,
        user_data: Option<&[u8]>,
        nonce: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> Result<Vec<u8>, NsmError>;
}

/// The security module of the enclave this process runs in.
#[derive(Debug)]
pub struct NsmDevice(File);

impl NsmDevice {
    /// Opens `/dev/nsm`, which stays open until this is dropped.
    ///
    /// # Errors
    ///
    /// Outside an enclave there is no such device.
    pub fn open() -> Result<Self, NsmError> {
        File::options().read(true).write(true).open(DEVICE).map(Self).map_err(NsmError::Open)
    }
}

impl Nsm for NsmDevice {
    fn document(
        &self,
        user_data: Option<&[u8]>,
        nonce: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> Result<Vec<u8>, NsmError> {
        let request = attestation(user_data, nonce, public_key)?;
        document_of(nsm_process_request(self.0.as_raw_fd(), request))
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NsmError {
    /// The device did not open: this is no enclave, or the process may not open it.
    #[error("the security module could not be opened")]
    Open(#[source] io::Error),
    /// A part of the request is longer than the module takes.
    #[error("the {part} for the attestation document is longer than {bytes_max} bytes")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// How long it may be.
        bytes_max: usize,
    },
    /// The module refused.
    #[error("the security module made no document: {0:?}")]
    Module(ErrorCode),
    /// The module answered something else.
    #[error("the security module answered something other than a document")]
    Answer,
}

fn attestation(user_data: Option<&[u8]>, nonce: Option<&[u8]>, public_key: Option<&[u8]>) -> Result<Request, NsmError> {
    Ok(Request::Attestation {
        user_data: part("user data", user_data, USER_DATA_BYTES_MAX)?,
        nonce: part("nonce", nonce, NONCE_BYTES_MAX)?,
        public_key: part("public key", public_key, PUBLIC_KEY_BYTES_MAX)?,
    })
}

fn part(part: &'static str, bytes: Option<&[u8]>, bytes_max: usize) -> Result<Option<ByteBuf>, NsmError> {
    match bytes {
        Some(bytes) if bytes.len() > bytes_max => Err(NsmError::TooLong { part, bytes_max }),
        bytes => Ok(bytes.map(ByteBuf::from)),
    }
}

fn document_of(response: Response) -> Result<Vec<u8>, NsmError> {
    match response {
        Response::Attestation { document } if (1..=DOCUMENT_BYTES_MAX).contains(&document.len()) => Ok(document),
        Response::Error(code) => Err(NsmError::Module(code)),
        _ => Err(NsmError::Answer),
    }
}

const DEVICE: &str = "/dev/nsm";

// The request must fit the module's 4 KiB with room for its CBOR.
const _: () = assert!(USER_DATA_BYTES_MAX + NONCE_BYTES_MAX + PUBLIC_KEY_BYTES_MAX + 256 <= 4096);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::EmulatedNsm;

    impl Nsm for EmulatedNsm {
        fn document(
            &self,
            user_data: Option<&[u8]>,
            nonce: Option<&[u8]>,
            public_key: Option<&[u8]>,
        ) -> Result<Vec<u8>, NsmError> {
            attestation(user_data, nonce, public_key)?;
            document_of(Response::Attestation { document: self.sign(user_data, nonce, public_key) })
        }
    }

    #[test]
    fn what_is_too_long_for_the_module_is_not_sent() {
        let long = [0; PUBLIC_KEY_BYTES_MAX + 1];
        let refused = |user_data, nonce, public_key| match attestation(user_data, nonce, public_key) {
            Err(NsmError::TooLong { part, .. }) => part,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(Some(&long[..513]), None, None), "user data");
        assert_eq!(refused(None, Some(&long[..513]), None), "nonce");
        assert_eq!(refused(None, None, Some(&long[..])), "public key");
        assert!(attestation(Some(&long[..512]), Some(&long[..512]), Some(&long[..1024])).is_ok());
    }

    #[test]
    fn an_answer_is_a_document_or_an_error() {
        assert_eq!(document_of(Response::Attestation { document: vec![1, 2] }).unwrap(), [1, 2]);
        assert!(matches!(document_of(Response::Attestation { document: vec![] }), Err(NsmError::Answer)));
        let long = vec![0; DOCUMENT_BYTES_MAX + 1];
        assert!(matches!(document_of(Response::Attestation { document: long }), Err(NsmError::Answer)));
        assert!(matches!(document_of(Response::LockPCR), Err(NsmError::Answer)));
        assert!(matches!(
            document_of(Response::Error(ErrorCode::InvalidOperation)),
            Err(NsmError::Module(ErrorCode::InvalidOperation))
        ));
    }

    #[test]
    fn outside_an_enclave_there_is_no_module() {
        assert!(matches!(NsmDevice::open(), Err(NsmError::Open(_))));
    }

    #[test]
    fn a_file_that_is_no_module_makes_no_document() {
        let device = NsmDevice(File::options().read(true).write(true).open("/dev/null").unwrap());
        assert!(matches!(device.document(None, None, None), Err(NsmError::Module(_))));
    }

    #[test]
    fn the_emulator_takes_what_the_module_takes() {
        let nsm = EmulatedNsm::new(1_800_000_000_000);
        assert!(nsm.document(Some(&[1]), Some(&[2]), Some(&[3])).is_ok());
        assert!(matches!(nsm.document(None, Some(&[0; 513]), None), Err(NsmError::TooLong { .. })));
    }
}
