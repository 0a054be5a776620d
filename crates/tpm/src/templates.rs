//! What is made in the TPM, and how it is described to it (TPM 2.0 Part 2).

use tss_esapi::attributes::{NvIndexAttributes, NvIndexAttributesBuilder, ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::constants::NvIndexType;
use tss_esapi::handles::NvIndexTpmHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme, NvPublic, NvPublicBuilder,
    PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public, PublicBuilder, PublicEccParameters,
    PublicEccParametersBuilder, PublicKeyedHashParameters, SymmetricDefinitionObject,
};
use tss_esapi::{Error, WrapperErrorKind};

/// The storage key that shares are sealed under. A primary key: the TPM makes the same one from the same template each time, until
/// it is cleared.
pub(crate) fn storage_key() -> tss_esapi::Result<Public> {
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(false)
        .with_is_decryption_key(true)
        .with_restricted(true)
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    let attributes = key_attributes().with_decrypt(true).build()?;
    ecc(attributes, parameters)
}

/// The attestation key: it signs what the TPM says of itself, and nothing else.
pub(crate) fn attestation_key() -> tss_esapi::Result<Public> {
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(true)
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    let attributes = key_attributes().with_sign_encrypt(true).build()?;
    ecc(attributes, parameters)
}

/// A sealed secret: the policy is the only way to it, there is no password beside it, and it counts for the TPM's protection
/// against dictionary attacks.
pub(crate) fn sealed(policy: Digest) -> tss_esapi::Result<Public> {
    let attributes: ObjectAttributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_user_with_auth(false)
        .with_admin_with_policy(true)
        .with_no_da(false)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

/// The host's counter. Nobody can count it down: also one that is made anew starts above every counter the TPM ever had.
pub(crate) fn counter() -> tss_esapi::Result<NvPublic> {
    let attributes: NvIndexAttributes = NvIndexAttributesBuilder::new()
        .with_nv_index_type(NvIndexType::Counter)
        .with_owner_write(true)
        .with_owner_read(true)
        .with_no_da(true)
        .build()?;
    NvPublicBuilder::new()
        .with_nv_index(NvIndexTpmHandle::new(COUNTER_INDEX)?)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(COUNTER_BYTES.into())
        .build()
}

/// These registers of the SHA-256 bank.
pub(crate) fn selection(pcrs: impl IntoIterator<Item = u8>) -> tss_esapi::Result<PcrSelectionList> {
    let slots = pcrs.into_iter().map(slot).collect::<tss_esapi::Result<Vec<_>>>()?;
    PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots).build()
}

fn slot(pcr: u8) -> tss_esapi::Result<PcrSlot> {
    let bit = 1_u32.checked_shl(pcr.into());
    PcrSlot::try_from(bit.ok_or(Error::WrapperError(WrapperErrorKind::InvalidParam))?)
}

fn key_attributes() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        // They have no password that could be guessed; and a chip that lost its power three times would lock them.
        .with_no_da(true)
        .with_restricted(true)
}

fn ecc(attributes: ObjectAttributes, parameters: PublicEccParameters) -> tss_esapi::Result<Public> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// The counter's index, among those that owners give out.
pub(crate) const COUNTER_INDEX: u32 = 0x0180_5352;
pub(crate) const COUNTER_BYTES: u16 = 8;
