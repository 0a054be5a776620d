//! A member brings a KeePass database.

mod common;

use common::{PASSWORD, import, names, text, with_password};
use keepass::config::{CompressionConfig, DatabaseConfig, InnerCipherConfig, KdfConfig, OuterCipherConfig};
use keepass::{Database, DatabaseKey};
use strongroom_import::{Head, ImportRefused, Reason};
use strongroom_wire::Class;
use strongroom_wire::items::ItemDraft;

const DATABASE: &[u8] = include_bytes!("data/keepass.kdbx");

#[test]
fn entries_groups_and_codes_come_in() {
    let import = with_password(PASSWORD, DATABASE).expect("the right password");
    let bank = import.item("Example Bank");
    assert_eq!(bank.tags, ["Web", "money", "important"]);
    let mut fields = names(bank);
    assert_eq!(&fields[..7], ["username", "password", "totp", "notes", "url", "url-2", "url-3"]);
    fields.drain(..7);
    fields.sort_unstable();
    assert_eq!(fields, ["customer_number", "pin_for_phone"]);
    assert_eq!(text(bank, "url-3"), "https://bank.example/beta");
    assert_eq!(text(bank, "notes"), "First line\nSecond line with <tags> & ampersands");
    let class = |field: &str| bank.fields.iter().find(|f| f.name.as_str() == field).map(|f| f.class);
    assert_eq!((class("pin_for_phone"), class("customer_number")), (Some(Class::Secret), Some(Class::Private)));

    let shop = import.item("Пример Shop 🛒");
    assert_eq!(shop.tags, ["Web/Shops & more"]);
    assert_eq!(text(shop, "password"), "made-up-пароль-🔑");
    assert!(text(shop, "totp").ends_with("?secret=GEZDGNBVGY3TQOJQ&algorithm=SHA1&digits=8&period=60"));
    let forge = import.item("Example Forge");
    assert_eq!(
        text(forge, "totp"),
        "otpauth://totp/Example%20Forge?secret=GEZDGNBVGY3TQOJQ&algorithm=SHA256&digits=8&period=30"
    );
    assert_eq!(text(import.item("Steam"), "totp"), "steam://GEZDGNBVGY3TQOJQ");
    assert_eq!(import.summary.items, 5);
}

#[test]
fn what_has_no_place_is_named_and_no_value_with_it() {
    let import = with_password(PASSWORD, DATABASE).expect("the right password");
    for (label, what, reason) in [
        ("Example Bank", "attachment \"statement 2025.pdf\"", Reason::Attachment),
        ("Example Bank", "2 older versions", Reason::OlderVersion),
        ("Пример Shop 🛒", "its date of expiry", Reason::NoPlace),
        ("Refers to the bank", "a reference in its password", Reason::NotExpanded),
        ("Example Forge", "\"пароль для входа\"", Reason::Renamed),
        ("Thrown away", "an entry", Reason::InRecycleBin),
        ("(no name)", "an entry without any value", Reason::Empty),
        ("", "files in the database", Reason::Attachment),
    ] {
        assert!(import.reports(label, what, reason), "{what}\n{:#?}", import.not_carried);
    }
    let report = format!("{:?}{:?}", import.not_carried, import.bad_rows);
    assert!(!report.contains("made-up"), "{report}");
}

#[test]
fn a_key_file_is_needed_where_there_is_one() {
    let file = include_bytes!("data/keepass-keyfile.kdbx");
    let head = || Head {
        password: Some(PASSWORD.into()),
        key_file: Some(include_str!("data/keepass.keyx").into()),
        ..Head::default()
    };
    assert_eq!(import(head(), file).expect("both fit").summary.items, 5);
    assert_eq!(with_password(PASSWORD, file).err(), Some(ImportRefused::PasswordWrong));
    let other = Head { key_file: Some("another file".into()), ..head() };
    assert_eq!(import(other, file).err(), Some(ImportRefused::PasswordWrong));
    assert_eq!(import(Head::default(), file).err(), Some(ImportRefused::PasswordNeeded));
}

#[test]
fn a_second_import_finds_the_same_entries() {
    let ids = || -> Vec<_> {
        let import = with_password(PASSWORD, DATABASE).expect("the right password");
        import.items.into_iter().map(|item| item.origin.expect("an imported item has an origin").id).collect()
    };
    assert_eq!(ids(), ids());
    assert!(ids().iter().all(|id| id.len() == 32));
}

/// What the crate `keepass` writes, in all its ciphers and key derivations, we read.
#[test]
fn another_programs_files_of_every_cipher_read_the_same() {
    let KdfConfig::Argon2 { version, .. } = DatabaseConfig::default().kdf_config else { panic!("its default") };
    let kdfs = [
        KdfConfig::Aes { rounds: 1_000 },
        KdfConfig::Argon2 { iterations: 2, memory: 65_536, parallelism: 2, version },
        KdfConfig::Argon2id { iterations: 1, memory: 131_072, parallelism: 1, version },
    ];
    let mut seen = Vec::new();
    for outer in [OuterCipherConfig::AES256, OuterCipherConfig::Twofish, OuterCipherConfig::ChaCha20] {
        for inner in [InnerCipherConfig::Salsa20, InnerCipherConfig::ChaCha20] {
            for compression in [CompressionConfig::None, CompressionConfig::GZip] {
                for kdf in &kdfs {
                    let mut config = DatabaseConfig::default();
                    config.outer_cipher_config = outer.clone();
                    config.inner_cipher_config = inner.clone();
                    config.compression_config = compression.clone();
                    config.kdf_config = kdf.clone();
                    let import = with_password(PASSWORD, &foreign(config)).expect("the right password");
                    let mut items: Vec<String> = import.items.iter().map(without_id).collect();
                    items.sort();
                    seen.push(items);
                }
            }
        }
    }
    assert_eq!(seen.len(), 36);
    assert_eq!(seen[0].len(), 20);
    assert!(seen.iter().all(|items| *items == seen[0]));
}

fn foreign(config: DatabaseConfig) -> Vec<u8> {
    let mut database = Database::with_config(config);
    for n in 0..20 {
        database.root_mut().add_entry().edit(|entry| {
            entry.set_unprotected("Title", format!("Entry {n} <&> ü"));
            entry.set_protected("Password", format!("made-up-{n}-🔑\nsecond line"));
            entry.set_protected("Extra", format!("made-up-extra-{n}"));
        });
    }
    let mut file = Vec::new();
    database.save(&mut file, DatabaseKey::new().with_password(PASSWORD)).expect("memory takes every byte");
    file
}

/// The item without its id, which is drawn anew for each file. `keepass` keeps strings in no order.
fn without_id(item: &ItemDraft) -> String {
    let mut fields = names(item);
    fields.sort_unstable();
    let fields: Vec<_> = fields.into_iter().map(|name| (name, text(item, name))).collect();
    format!("{} {fields:?}", item.label)
}
