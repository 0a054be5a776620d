//! `approvals`: what guests ask, shown exactly, and the member's answers.

use clap::Subcommand;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{ApprovalAnswer, ApprovalView, DeviceAnswer, DeviceRequest, GrantAdd, Question};
use strongroom_client::wire::guest::{Call, CryptCall, HttpBody, SignCall, UseCall};
use strongroom_client::wire::{ApprovalId, Code};

use crate::app::{App, find_field, unexpected};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::grant::LimitArgs;
use crate::human;
use crate::output::{escape, escape_lines};
use crate::prompt::Prompter;

/// `approvals …`
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List the questions that wait
    List,
    /// Wait for questions, and answer each as it comes
    #[command(
        after_help = "Anything that runs as your own user can watch this terminal. Run agents under another user.

Example:
  strongroom approvals watch"
    )]
    Watch,
    /// Answer one question
    #[command(after_help = "Examples:
  strongroom approvals answer ID --deny
  strongroom approvals answer ID --allow
  strongroom approvals answer ID --allow --item Weather --mode once:10m --method GET   (a wish for a grant)")]
    Answer {
        /// The question
        approval: ApprovalId,
        /// Yes
        #[arg(long, conflicts_with = "deny", required_unless_present = "deny")]
        allow: bool,
        /// No
        #[arg(long)]
        deny: bool,
        /// For a wish: the item, ITEM/FIELD or vault://… that is granted
        #[arg(long, value_name = "ITEM")]
        item: Option<String>,
        #[command(flatten)]
        limits: Box<LimitArgs>,
    },
}

/// Runs `approvals …`.
pub(crate) fn run(app: &App, command: &ApprovalsCommand) -> Result<(), Failure> {
    match command {
        ApprovalsCommand::List => {
            let (_, approvals) = app.session(|session| list(session, 0, 0))?;
            app.out.result(&approvals, || {
                if approvals.is_empty() {
                    "Nothing waits.".to_owned()
                } else {
                    approvals.iter().map(question_text).collect::<Vec<_>>().join("\n")
                }
            })
        }
        ApprovalsCommand::Watch => watch(app),
        ApprovalsCommand::Answer { approval, allow, item, limits, .. } => app.session(|session| {
            let (_, waiting) = list(session, 0, 0)?;
            let view = waiting.iter().find(|view| view.id == *approval).ok_or_else(|| {
                Failure::new(Exit::Refused, Code::ApprovalUnknown, "there is no such pending approval")
                    .hint("strongroom approvals list")
            })?;
            // What is agreed to is shown before the factor is asked for, also where the answer came with the command.
            app.out.note(&question_text(view));
            let grant = if *allow { wished_grant(session, view, item.as_deref(), limits)? } else { None };
            answer(session, view, *allow, grant)?;
            app.out.done(if *allow { "Allowed." } else { "Refused." })
        }),
    }
}

fn watch(app: &App) -> Result<(), Failure> {
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    let asker = prompter.clone();
    let mut session = Session::new(&profile, &mut prompter);
    app.out.note("Waiting for questions. Control-C ends it; what is not answered in time is a no.");
    let mut number = 0;
    let mut shown: Vec<ApprovalId> = Vec::new();
    loop {
        let (now, waiting) = list(&mut session, number, WATCH_SECS)?;
        number = now;
        shown.retain(|id| waiting.iter().any(|view| view.id == *id));
        for view in &waiting {
            if shown.contains(&view.id) {
                continue;
            }
            shown.push(view.id);
            if app.out.json {
                app.out.json_line(view)?;
                continue;
            }
            app.out.text(&question_text(view))?;
            match decide(&mut session, &asker, view) {
                Ok(text) => app.out.text(text)?,
                // One question that cannot be answered any more does not end the watch.
                Err(failure) if failure.exit == Exit::Refused => app.out.failure(&failure),
                Err(failure) => return Err(failure),
            }
            // Each yes takes the factor anew: it stands for what was on the screen, and nothing later.
            session.forget_factor();
        }
    }
}

fn decide(session: &mut Session<'_>, asker: &Prompter, view: &ApprovalView) -> Result<&'static str, Failure> {
    let wish = matches!(view.question, Question::Grant(_));
    let options = if wish { "[n]o, [s]kip; `approvals answer` grants it" } else { "[y]es, [n]o, [s]kip" };
    loop {
        match asker.line(&format!("{options}: "))?.to_lowercase().as_str() {
            "y" | "yes" if !wish => {
                answer(session, view, true, None)?;
                return Ok("Allowed.");
            }
            "n" | "no" => {
                answer(session, view, false, None)?;
                return Ok("Refused.");
            }
            "s" | "skip" => return Ok("Skipped; it expires as refused."),
            _ => {}
        }
    }
}

fn answer(session: &mut Session<'_>, view: &ApprovalView, allow: bool, grant: Option<GrantAdd>) -> Result<(), Failure> {
    let answer = ApprovalAnswer { approval: view.id, request_hash: view.request_hash.clone(), allow, grant };
    session.ask(&DeviceRequest::ApprovalAnswer(answer))?;
    Ok(())
}

/// The grant that answers a wish: the member names the item, the guest never does.
fn wished_grant(
    session: &mut Session<'_>,
    view: &ApprovalView,
    item: Option<&str>,
    limits: &LimitArgs,
) -> Result<Option<GrantAdd>, Failure> {
    let Question::Grant(wish) = &view.question else {
        return match item {
            Some(_) => Err(Failure::usage("--item belongs to a wish for a grant; this question is about one use")),
            None => Ok(None),
        };
    };
    let item = item.ok_or_else(|| Failure::usage("--item says which item is granted"))?;
    let (limits, mode) = limits.build(wish.consumer)?;
    let (reference, _) = find_field(session, item, None)?;
    Ok(Some(GrantAdd { guest: view.guest, reference, consumer: wish.consumer, limits, mode }))
}

fn list(session: &mut Session<'_>, after: u64, wait_secs: u64) -> Result<(u64, Vec<ApprovalView>), Failure> {
    match session.ask(&DeviceRequest::ApprovalList { after, wait_secs })? {
        DeviceAnswer::Approvals { number, approvals } => Ok((number, approvals)),
        _ => Err(unexpected()),
    }
}

/// A question as the member sees it: exactly what will happen, and nothing that a guest wrote can pass for our words.
fn question_text(view: &ApprovalView) -> String {
    let mut text = format!("\n{}\n", view.id);
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {}\n", escape(value)));
    line("guest", &view.guest_name);
    match &view.question {
        Question::Use { item_label, call, covers, content_shown } => {
            line("item", item_label);
            for (name, value) in call_lines(call) {
                line(name, &value);
            }
            if !content_shown {
                line("content", "NOT SHOWN: the body is streamed");
            }
            if let Some(cover) = covers {
                let operation =
                    cover.operation.as_ref().map(|operation| format!("any {operation} that the grant allows,"));
                let parts: Vec<&str> = [&cover.method, &cover.host, &cover.path_prefix, &operation]
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .collect();
                line("covers", &format!("{} for {}", parts.join(" "), human::duration(cover.secs)));
            }
        }
        Question::Grant(wish) => {
            line(
                "wishes",
                &format!(
                    "a grant for {}{}",
                    wish.consumer,
                    wish.host.as_ref().map(|host| format!(" at {host}")).unwrap_or_default()
                ),
            );
            text.push_str("  the guest's words, for what and why:\n");
            text.push_str(&escape_lines(&wish.subject, "    > "));
            text.push_str(&escape_lines(&wish.reason, "    > "));
        }
    }
    if let Some(reason) = &view.reason {
        text.push_str("  the guest's words:\n");
        text.push_str(&escape_lines(reason, "    > "));
    }
    text.push_str(&format!("  expires   {}\n", human::relative(view.expires_at)));
    text
}

fn call_lines(call: &UseCall) -> Vec<(&'static str, String)> {
    let mut lines = vec![("field", call.reference.field.to_string())];
    match &call.call {
        Call::Http(http) => {
            lines.push(("request", format!("{} {}", http.method, http.url)));
            lines.extend(http.headers.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
            match &http.body {
                HttpBody::Empty => {}
                HttpBody::Inline(bytes) => lines.extend(content("body", &bytes.0)),
                HttpBody::Stream { length } => {
                    let length = length.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string());
                    lines.push(("body", format!("{length} bytes, streamed")));
                }
            }
            if http.follow_redirects {
                lines.push(("redirects", "followed inside the grant".to_owned()));
            }
        }
        Call::Sign(SignCall::Message { message }) => lines.extend(content("sign", &message.0)),
        Call::Sign(SignCall::Ssh { namespace, message }) => {
            lines.push(("namespace", namespace.clone()));
            lines.extend(content("sign", &message.0));
        }
        Call::Sign(SignCall::Jwt { claims, key_id }) => {
            lines.push(("token", serde_json::Value::Object(claims.clone()).to_string()));
            lines.extend(key_id.as_ref().map(|id| ("key id", id.clone())));
        }
        Call::Totp(_) => lines.push(("discloses", "a one-time code".to_owned())),
        Call::Crypt(crypt) => lines.extend(match crypt {
            CryptCall::Encrypt { plaintext, .. } => content("encrypt", &plaintext.0),
            CryptCall::Decrypt { ciphertext, .. } => {
                vec![("decrypt", format!("{} bytes; DISCLOSES the plaintext", ciphertext.0.len()))]
            }
            CryptCall::Rewrap { ciphertext, .. } => vec![("rewrap", format!("{} bytes", ciphertext.0.len()))],
            CryptCall::Mac { message } => content("mac", &message.0),
            CryptCall::VerifyMac { message, .. } => content("verify", &message.0),
            CryptCall::Derive { purpose, .. } => {
                let what = "which the guest may then use in every way, within this grant's limits";
                vec![("derive", format!("a key for {purpose}, {what}"))]
            }
        }),
    }
    if let Call::Crypt(
        CryptCall::Encrypt { context, .. }
        | CryptCall::Decrypt { context, .. }
        | CryptCall::Rewrap { context, .. }
        | CryptCall::Derive { context, .. },
    ) = &call.call
        && !context.0.is_empty()
    {
        lines.extend(content("context", &context.0));
    }
    lines
}

/// The whole content; of a long one its head and its end, and first of all that there is more.
fn content(name: &'static str, bytes: &[u8]) -> Vec<(&'static str, String)> {
    let is_text = std::str::from_utf8(bytes).is_ok();
    let shown = |bytes: &[u8]| match is_text {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => data_encoding::HEXLOWER.encode(bytes),
    };
    if bytes.len() <= SHOWN_BYTES_MAX {
        return vec![(name, shown(bytes))];
    }
    let all = format!("NOT SHOWN IN FULL: {} bytes; for all of them: strongroom --json approvals list", bytes.len());
    let (head, end) = (&bytes[..SHOWN_BYTES_MAX / 2], &bytes[bytes.len() - SHOWN_BYTES_MAX / 2..]);
    vec![(name, all), ("its head", shown(head)), ("its end", shown(end))]
}

const WATCH_SECS: u64 = 30;
const SHOWN_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use strongroom_client::wire::guest::{GrantWish, HttpCall};
    use strongroom_client::wire::policy::Consumer;
    use strongroom_client::wire::{Bytes, FieldName, GuestId, ItemId, Reference, Timestamp};

    use super::*;

    fn view(question: Question, reason: &str) -> ApprovalView {
        ApprovalView {
            id: ApprovalId([1; 16]),
            guest: GuestId([2; 16]),
            guest_name: "helper\x1b[2J".into(),
            question,
            reason: Some(reason.to_owned()),
            request_hash: Bytes(vec![3; 32]),
            asked_at: Timestamp(0),
            expires_at: Timestamp(0),
        }
    }

    #[test]
    fn a_guests_words_stay_its_words() {
        let call = UseCall {
            reference: Reference { item: ItemId([4; 16]), field: FieldName::parse("key").unwrap() },
            call: Call::Http(HttpCall {
                method: "POST".into(),
                url: "https://api.example.com/pay".into(),
                headers: vec![("X-A".into(), "b\r\n  request   GET https://harmless".into())],
                body: HttpBody::Inline(Bytes(b"{\"amount\":1}".to_vec())),
                follow_redirects: false,
            }),
        };
        let question = Question::Use { item_label: "Pay".into(), call, covers: None, content_shown: true };
        let text = question_text(&view(question, "please\n  request   GET /nothing\x1b]0;x\x07"));
        assert!(!text.contains('\x1b') && !text.contains('\x07') && !text.contains('\r'));
        assert_eq!(text.matches("\n  request ").count(), 1, "{text}");
        assert!(text.contains("    >   request   GET /nothing"));
        assert!(text.contains("{\"amount\":1}"));
    }

    #[test]
    fn of_a_long_message_the_end_is_seen_and_that_there_is_more() {
        let long = [b"harmless".to_vec(), vec![b' '; 6_000], b"EVIL TAIL".to_vec()].concat();
        for (bytes, tail) in
            [(long.clone(), "EVIL TAIL".to_owned()), ([long, vec![0xff]].concat(), "4c ff".replace(' ', ""))]
        {
            let text = format!("{:?}", content("sign", &bytes));
            assert!(text.contains("NOT SHOWN IN FULL") && text.contains(&tail), "{text}");
        }
        // Bytes that are no text are shown whole up to the same length.
        assert_eq!(content("sign", &[0xff; 4_096]), [("sign", "ff".repeat(4_096))]);
    }

    #[test]
    fn a_wish_shows_what_is_asked() {
        let wish = GrantWish {
            subject: "the Weather API".into(),
            reason: "to plan".into(),
            consumer: Consumer::Http,
            host: Some("api.weather.example".into()),
        };
        let text = question_text(&view(Question::Grant(wish), "r"));
        assert!(text.contains("a grant for http at api.weather.example") && text.contains("    > the Weather API"));
    }
}
