//! A member brings a project's `.env` file.

mod common;

use common::{import, text};
use strongroom_import::{Head, Kind, Reason, RowFault};
use strongroom_wire::{Class, ItemType};

const SETTINGS: &[u8] = include_bytes!("data/settings.env");

#[test]
fn each_variable_is_an_api_key_without_a_policy() {
    let import = import(Head::default(), SETTINGS).expect("a good file");
    assert_eq!((import.summary.kind, import.summary.items), (Kind::Env, 7));
    assert!(import.items.iter().all(|item| item.item_type == ItemType::ApiKey && item.policy.is_empty()));
    assert!(import.items.iter().all(|item| item.fields.len() == 1 && item.fields[0].class == Class::Secret));
    assert_eq!(text(import.item("DB_PASSWORD"), "key"), "made-up $literal # password");
    assert_eq!(text(import.item("GREETING"), "key"), "Grüße, \"Ada\"\nand welcome 🔑");
    assert!(text(import.item("PRIVATE_KEY"), "key").contains("\nbWFkZS11cA==\n"));
    assert!(import.reports("DATABASE_URL", "variables in its value", Reason::NotExpanded));
    assert!(import.reports("EMPTY", "its value", Reason::Empty));
    assert!(import.reports("", "comment lines", Reason::NoPlace));
    assert_eq!(import.bad_rows[0].place.line, Some(12));
    assert_eq!(import.bad_rows[0].fault, RowFault::NoAssignment);
    assert!(!format!("{:?}", import.not_carried).contains("made-up"));
}

#[test]
fn two_projects_do_not_share_their_variables() {
    let ids = |scope: &str| -> Vec<String> {
        let import = import(Head { scope: scope.into(), ..Head::default() }, SETTINGS).expect("a good file");
        import.items.into_iter().map(|item| item.origin.expect("an imported item has an origin").id).collect()
    };
    assert_eq!(ids("weather/.env"), ids("weather/.env"));
    assert!(ids("weather/.env").iter().all(|id| !ids("forge/.env").contains(id)));
    assert!(ids("weather/.env").iter().any(|id| id.ends_with("#2")));
}
