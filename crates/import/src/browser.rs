//! The CSV files of browsers, each known by its header line.

use strongroom_wire::{Class, ItemType};

use crate::draft::{Draft, text_of};
use crate::intake::{ImportError, Intake, digest};
use crate::kind::Kind;
use crate::refused::ImportRefused;
use crate::report::{Place, Reason, RowFault};
use crate::rows::{Cell, Rows};
use crate::text::{self, Text, host_of};

/// The kind of a CSV file by its header line.
pub(crate) fn detect(file: &[u8]) -> Option<Kind> {
    let header = header(&mut Rows::new(file)).ok()?;
    [Kind::Firefox, Kind::Safari, Kind::Chrome].into_iter().find(|kind| columns(*kind, &header).is_some())
}

/// Reads the rows of a browser's file as logins.
pub(crate) fn read(file: &[u8], kind: Kind, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    if text::is_utf16(file) {
        return Err(ImportRefused::Utf16.into());
    }
    let file = text::without_bom(file);
    let mut rows = Rows::new(file);
    let columns = columns(kind, &header(&mut rows)?).ok_or(ImportRefused::HeaderUnknown)?;
    while let Some(row) = rows.next()? {
        let place = Place::line(row.line);
        match row.cells.and_then(|cells| texts(cells, columns.len())) {
            Ok(texts) => login(&columns, texts, place, intake)?,
            Err(fault) => intake.bad_row(place, fault)?,
        }
        intake.progress(rows.position() as u64, file.len() as u64)?;
    }
    Ok(())
}

/// What a column holds.
#[derive(Clone, PartialEq)]
enum Column {
    Label,
    Url,
    Username,
    Password,
    Notes,
    Totp,
    /// The source's own id.
    Id,
    /// Where the form is sent; it counts where it differs from the URL.
    FormUrl,
    /// Something with a field of its own.
    Named(&'static str),
    /// Times of use, which every row has.
    Times,
    /// Something unknown.
    Unknown(String),
}

fn header(rows: &mut Rows<'_>) -> Result<Vec<String>, ImportRefused> {
    let row = rows.next()?.ok_or(ImportRefused::CutShort)?;
    let cells = row.cells.map_err(|_| ImportRefused::HeaderUnknown)?;
    let name = |cell: Cell| text_of(cell).map(|text| text.trim().to_owned()).ok_or(ImportRefused::HeaderUnknown);
    cells.into_iter().map(name).collect()
}

/// The columns in their order, where the header line is one of this kind.
fn columns(kind: Kind, header: &[String]) -> Option<Vec<Column>> {
    let has = |names: &[&str]| names.iter().all(|name| header.iter().any(|column| column.eq_ignore_ascii_case(name)));
    let (needed, known): (&[&str], &[(&str, Column)]) = match kind {
        Kind::Chrome => (&["name", "url", "username", "password"], CHROME),
        Kind::Firefox => (&["url", "username", "password", "guid"], FIREFOX),
        Kind::Safari => (&["title", "url", "username", "password"], SAFARI),
        Kind::Bitwarden | Kind::KeePass | Kind::Env => return None,
    };
    let column = |name: &String| {
        let known = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map_or_else(|| Column::Unknown(name.clone()), |(_, column)| column.clone())
    };
    has(needed).then(|| header.iter().map(column).collect())
}

fn texts(cells: Vec<Cell>, columns: usize) -> Result<Vec<Text>, RowFault> {
    if cells.len() != columns {
        return Err(RowFault::Columns);
    }
    cells.into_iter().map(|cell| text_of(cell).ok_or(RowFault::NotUtf8)).collect()
}

fn login(columns: &[Column], mut texts: Vec<Text>, place: Place, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    let mut take = |column: &Column| {
        let at = columns.iter().position(|c| c == column);
        at.map(|at| std::mem::take(&mut texts[at])).unwrap_or_default()
    };
    let (label, url, username) = (take(&Column::Label), take(&Column::Url), take(&Column::Username));
    let (guid, form_url) = (take(&Column::Id), take(&Column::FormUrl));
    let id = if guid.is_empty() { digest(&[&url, &username]) } else { guid.to_string() };

    let mut draft = Draft::new(ItemType::Login, &[&label, host_of(&url), &username], place);
    draft.usual("username", Some(username));
    draft.usual("password", Some(take(&Column::Password)));
    if *form_url != *url {
        draft.known("form_action_origin", Class::Private, Some(form_url));
    }
    draft.urls(vec![url]);
    draft.usual("totp", Some(take(&Column::Totp)));
    draft.usual("notes", Some(take(&Column::Notes)));
    rest(columns, texts, &mut draft, intake);
    intake.item(draft, &id)
}

fn rest(columns: &[Column], texts: Vec<Text>, draft: &mut Draft, intake: &mut Intake<'_>) {
    for (column, text) in columns.iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
        match column {
            Column::Named(name) => draft.known(name, Class::Private, Some(text)),
            Column::Times => intake.tally("times of creation, change and use", Reason::NoPlace, 1),
            Column::Unknown(name) => draft.lose(format!("column \"{name}\""), Reason::NoPlace),
            // A column that is there twice: its first text was taken.
            _ => draft.lose("a second column of the same name", Reason::NoPlace),
        }
    }
}

const CHROME: &[(&str, Column)] = &[
    ("name", Column::Label),
    ("url", Column::Url),
    ("username", Column::Username),
    ("password", Column::Password),
    ("note", Column::Notes),
];

const FIREFOX: &[(&str, Column)] = &[
    ("url", Column::Url),
    ("username", Column::Username),
    ("password", Column::Password),
    ("httpRealm", Column::Named("http_realm")),
    ("formActionOrigin", Column::FormUrl),
    ("guid", Column::Id),
    ("timeCreated", Column::Times),
    ("timeLastUsed", Column::Times),
    ("timePasswordChanged", Column::Times),
];

const SAFARI: &[(&str, Column)] = &[
    ("Title", Column::Label),
    ("URL", Column::Url),
    ("Username", Column::Username),
    ("Password", Column::Password),
    ("Notes", Column::Notes),
    ("OTPAuth", Column::Totp),
];
