//! Redirects (RFC 9110, section 15.4): each is a new request against the same rules.

use http::{Method, StatusCode, header};
use strongroom_wire::policy::Placement;
use strongroom_wire::target::Target;
use strongroom_wire::{Code, Refusal};

use super::HttpJob;
use super::exchange::Answer;
use super::headers::RequestHead;

/// The next request.
#[derive(Debug)]
pub(super) struct Redirect {
    pub(super) target: Target,
    pub(super) method: Method,
    /// Whether the body is sent again.
    pub(super) keeps_body: bool,
}

/// The request that an answer redirects to; `None` where the answer is to be delivered.
///
/// # Errors
/// `redirect_refused`, with the rule for the member: it leads outside the rules or cannot be repeated. The guest learns
/// nothing of where it led.
pub(super) fn follow(
    job: &HttpJob,
    request: &RequestHead,
    target: &Target,
    answer: &Answer,
    body_is_here: bool,
) -> Result<Option<Redirect>, Refusal> {
    let Some(location) = answer.headers().get(header::LOCATION).filter(|_| job.call.follow_redirects) else {
        return Ok(None);
    };
    let Some((method, keeps_body)) = next_method(answer.status(), &request.method) else { return Ok(None) };
    if answer.headers().get_all(header::LOCATION).iter().count() > 1 {
        return Err(refused("The host redirects to several places."));
    }
    if keeps_body && !body_is_here {
        return Err(refused("The redirect asks for the body again, which was streamed."));
    }
    let location = location.to_str().map_err(|_| refused("The redirect's URL is not one that can be sent."))?;
    let next = target
        .join(location)
        .map_err(|refusal| refused("The redirect's URL is not one that can be sent.").rule(refusal.to_string()))?;
    // Some hosts repeat the query, credential and all; it is placed anew.
    let next = match &job.policy.placement {
        Placement::Query { name } => next.without_parameter(name),
        _ => next,
    };
    if answer.mask.finds(next.to_string().as_bytes()) {
        return Err(refused("The redirect carries the secret."));
    }
    job.rules.check(method.as_str(), &next).map_err(|refusal| {
        let rule = refusal.rule.unwrap_or_default();
        Refusal::new(Code::RedirectRefused).rule(format!("{}: {next}; {rule}", refusal.code))
    })?;
    Ok(Some(Redirect { target: next, method, keeps_body }))
}

/// The method that a redirect goes on with, and whether the body goes along; `None` for a status that is none.
fn next_method(status: StatusCode, method: &Method) -> Option<(Method, bool)> {
    match status.as_u16() {
        301 | 302 if *method == Method::POST => Some((Method::GET, false)),
        303 if *method != Method::HEAD => Some((Method::GET, false)),
        301 | 302 | 303 | 307 | 308 => Some((method.clone(), true)),
        _ => None,
    }
}

fn refused(detail: &str) -> Refusal {
    Refusal::new(Code::RedirectRefused).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_follow_the_standard() {
        let next = |status: u16, method: &Method| next_method(StatusCode::from_u16(status).expect("a status"), method);
        assert_eq!(next(301, &Method::POST), Some((Method::GET, false)));
        assert_eq!(next(302, &Method::PUT), Some((Method::PUT, true)));
        assert_eq!(next(303, &Method::PUT), Some((Method::GET, false)));
        assert_eq!(next(303, &Method::HEAD), Some((Method::HEAD, true)));
        assert_eq!(next(307, &Method::POST), Some((Method::POST, true)));
        assert_eq!(next(308, &Method::DELETE), Some((Method::DELETE, true)));
        for status in [200, 300, 304, 305, 306, 400] {
            assert_eq!(next(status, &Method::GET), None, "{status}");
        }
    }
}
