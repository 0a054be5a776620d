//! The only vault code that holds a plaintext secret. Each consumer takes it for one call, does one thing with it, answers
//! with the result, and keeps nothing.
#![forbid(unsafe_code)]

pub mod crypt;
pub mod fuzz;
pub mod http;
pub mod keys;
pub mod mask;
pub mod sign;
pub mod totp;
