//! The simulated disk keeps the contract of `Storage`, as the real one does.

use strongroom_core::records::contract::{check_files, check_records};
use strongroom_crypto::secret::VaultKey;
use strongroom_sim::{Memory, Rng};

#[test]
fn records_are_as_the_contract_says() {
    let mut rng = Rng::new("contract");
    let vault_key = VaultKey::generate(&mut rng);
    let keys = [1, 2].map(|generation| vault_key.derive_database_key(&[1; 16], generation));
    for _ in 0..200 {
        let script: [u8; 300] = rng.bytes();
        check_records(&mut Memory::new(), [&keys[0], &keys[1]], &script);
    }
}

#[test]
fn files_are_as_the_contract_says() {
    let key = VaultKey::generate(&mut Rng::new("contract")).derive_database_key(&[1; 16], 1);
    check_files(&mut Memory::new(), &key);
}
