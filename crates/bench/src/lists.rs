//! A long list.

use strongroom_client::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ListQuery};

use crate::Outcome;
use crate::figure::Figure;
use crate::machine::{self, Machine, Passphrase};
use crate::times::Times;
use crate::writes::Bare;

/// All of 10,000 items, page by page, as the device shows them. Rows of a list hold no field, so that no secret is read.
pub(crate) fn figures(machine: &Machine) -> Outcome<Vec<Figure>> {
    let profile = machine::new_vault(&machine.place, "large")?;
    machine::import(&profile, ITEMS)?;
    let mut passphrase = Passphrase;
    let mut session = Session::new(&profile, &mut passphrase);
    let mut list = || {
        let (mut query, mut count) = (ListQuery::default(), 0);
        loop {
            let DeviceAnswer::Items { items, next } = session.ask(&DeviceRequest::ItemList(query.clone()))? else {
                return Err("not an answer to item_list".into());
            };
            count += items.len();
            match next {
                Some(_) => query.after = next,
                None if count == ITEMS => return Ok(()),
                None => return Err(format!("{count} items are listed").into()),
            }
        }
    };
    list()?;
    let listed = Times::of(20, |_| list())?;
    let mut bare = Bare::sqlcipher()?;
    bare.fill(ITEMS, RECORD_BYTES)?;
    let scanned = Times::of(20, |_| bare.scan().map(drop))?;
    Ok(vec![
        Figure::new("list of 10,000 items, median", listed.median_ms(), "ms")
            .beside("bare SQLCipher, all rows of such a table", scanned.median_ms())
            .at_most(20.0)
            .else_because(
                "Each record is read as JSON, its row written as JSON, sealed, opened and read again, in ten pages one after \
                 the other.",
            ),
    ])
}

const ITEMS: usize = 10_000;
/// About what a login's record has.
const RECORD_BYTES: usize = 400;
