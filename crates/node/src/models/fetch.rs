//! One request to one source: a range that goes on where the part ends, or the whole file where the source does not know ranges.

use std::time::Duration;

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE, RETRY_AFTER},
};
use tokio_util::sync::CancellationToken;

use super::{
    DownloadError, ModelsError,
    download::{Limits, Tell},
    part::Part,
};

/// Redirects that are followed: hubs send to a store, which sends to a mirror.
const MAX_REDIRECTS: usize = 10;

/// A name of the program for servers' logs: they ask for one.
const USER_AGENT: &str = concat!("DecentralGPT-Desktop/", env!("CARGO_PKG_VERSION"));

/// Longest wait that a source may ask for before the next try.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What to do after a request that did not bring the whole file.
#[derive(Debug)]
pub(super) enum Hitch {
    /// Ask the same source again, after `wait` where the source named one.
    Again {
        why: DownloadError,
        wait: Option<Duration>,
    },
    /// This source cannot help.
    NextSource(DownloadError),
    /// No source can.
    Give(DownloadError),
}

/// A client for downloads. `proxy`: none is the system's, an empty text is no proxy at all.
pub(super) fn client(proxy: Option<&str>, limits: &Limits) -> Result<Client, ModelsError> {
    let failed = |source| ModelsError::Proxy {
        proxy: proxy.map_or("of the system", without_password).to_owned(),
        source,
    };
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        // A redirect from https to http would let anybody in between choose the bytes of a file that has no digest yet.
        let downgrade = attempt.url().scheme() == "http"
            && attempt
                .previous()
                .last()
                .is_some_and(|before| before.scheme() == "https");
        if downgrade || attempt.previous().len() > MAX_REDIRECTS {
            attempt.stop()
        } else {
            attempt.follow()
        }
    });
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(limits.connect)
        .read_timeout(limits.stall)
        .redirect(redirects);
    match proxy {
        None => {}
        Some("") => builder = builder.no_proxy(),
        Some(proxy) => builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?),
    }
    builder.build().map_err(failed)
}

/// A proxy as an error may name it.
fn without_password(proxy: &str) -> &str {
    proxy.rsplit_once('@').map_or(proxy, |(_, host)| host)
}

/// Asks `url` for what is missing and appends it to `part`. `Ok` when the source has sent all it has.
pub(super) async fn fetch(
    client: &Client,
    url: &str,
    part: &mut Part,
    limits: &Limits,
    tell: &Tell,
    stop: &CancellationToken,
) -> Result<(), Hitch> {
    let host = host_of(url);
    // Bytes of another source go on only where the digest will tell whether they belong together.
    if part.len() > 0 && part.notes.digest.is_none() && part.notes.url.as_deref() != Some(url) {
        part.restart().await.map_err(Hitch::Give)?;
    }
    if part.notes.size.is_some_and(|size| size == part.len()) {
        return Ok(());
    }
    let same_source = part.notes.url.as_deref() == Some(url);
    let mut request = client.get(url);
    if part.len() > 0 {
        request = request.header(RANGE, format!("bytes={}-", part.len()));
        if let Some(etag) = part
            .notes
            .etag
            .as_deref()
            .filter(|etag| same_source && is_strong(etag))
        {
            request = request.header(IF_RANGE, etag);
        }
    }
    let response = tokio::select! {
        () = stop.cancelled() => return Err(Hitch::Give(DownloadError::Stopped)),
        response = request.send() => response.map_err(|error| broken(&host, &error))?,
    };
    begin(&response, url, &host, part, limits).await?;
    tell.fetching(part.len(), part.notes.size, &host);
    receive(response, &host, part, tell, stop).await
}

/// Judges the answer's head and brings the part to the place where its body goes on.
async fn begin(
    response: &Response,
    url: &str,
    host: &str,
    part: &mut Part,
    limits: &Limits,
) -> Result<(), Hitch> {
    let status = response.status();
    let headers = response.headers();
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        // Bytes that are packed on the way have no offsets to go on from.
        return Err(Hitch::NextSource(refused(host, status)));
    }
    let total = match status {
        StatusCode::OK => {
            // The whole file: the source knows no ranges, or its file has changed.
            if part.len() > 0 {
                part.restart().await.map_err(Hitch::Give)?;
            }
            response.content_length()
        }
        StatusCode::PARTIAL_CONTENT => {
            let Some((start, total)) = content_range(headers) else {
                return Err(Hitch::NextSource(refused(host, status)));
            };
            if start != part.len() {
                part.restart().await.map_err(Hitch::Give)?;
                return Err(Hitch::Again {
                    why: refused(host, status),
                    wait: None,
                });
            }
            total
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            // We hold more than the source has: its file is another one.
            part.restart().await.map_err(Hitch::Give)?;
            return Err(Hitch::Again {
                why: refused(host, status),
                wait: None,
            });
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            return Err(Hitch::Again {
                why: refused(host, status),
                wait: retry_after(headers),
            });
        }
        status if status.is_server_error() => {
            return Err(Hitch::Again {
                why: refused(host, status),
                wait: retry_after(headers),
            });
        }
        status => return Err(Hitch::NextSource(refused(host, status))),
    };
    if let (Some(expected), Some(found)) = (limits.size.or(part.notes.size), total)
        && expected != found
    {
        return Err(if limits.size.is_none() {
            // Only the source itself had said the old size.
            part.restart().await.map_err(Hitch::Give)?;
            Hitch::Again {
                why: DownloadError::WrongSize {
                    host: host.to_owned(),
                    expected,
                    found,
                },
                wait: None,
            }
        } else {
            Hitch::NextSource(DownloadError::WrongSize {
                host: host.to_owned(),
                expected,
                found,
            })
        });
    }
    part.notes.size = limits.size.or(total);
    part.notes.url = Some(url.to_owned());
    part.notes.etag = headers
        .get(ETAG)
        .and_then(|etag| etag.to_str().ok())
        .map(str::to_owned);
    room(part, limits)?;
    part.write_notes().map_err(Hitch::Give)
}

/// The disk is asked before it is filled.
fn room(part: &Part, limits: &Limits) -> Result<(), Hitch> {
    let need = part
        .notes
        .size
        .unwrap_or(0)
        .saturating_sub(part.len())
        .saturating_add(limits.spare);
    let have = (limits.free)().unwrap_or(u64::MAX);
    if need > have {
        Err(Hitch::Give(DownloadError::NoSpace { need, have }))
    } else {
        Ok(())
    }
}

async fn receive(
    mut response: Response,
    host: &str,
    part: &mut Part,
    tell: &Tell,
    stop: &CancellationToken,
) -> Result<(), Hitch> {
    loop {
        let chunk = tokio::select! {
            () = stop.cancelled() => {
                part.sync().await.map_err(Hitch::Give)?;
                return Err(Hitch::Give(DownloadError::Stopped));
            }
            chunk = response.chunk() => chunk,
        };
        let bytes = match chunk {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(error) => {
                part.sync().await.map_err(Hitch::Give)?;
                return Err(broken(host, &error));
            }
        };
        if let Some(size) = part.notes.size
            && part.len() + bytes.len() as u64 > size
        {
            let found = part.len() + bytes.len() as u64;
            let why = DownloadError::WrongSize {
                host: host.to_owned(),
                expected: size,
                found,
            };
            part.restart().await.map_err(Hitch::Give)?;
            return Err(Hitch::NextSource(why));
        }
        part.append(&bytes).await.map_err(Hitch::Give)?;
        tell.fetching(part.len(), part.notes.size, host);
    }
    part.sync().await.map_err(Hitch::Give)?;
    match part.notes.size {
        Some(size) if part.len() < size => Err(Hitch::Again {
            why: DownloadError::Unreachable {
                host: host.to_owned(),
                why: "the connection was closed early".to_owned(),
            },
            wait: None,
        }),
        _ => Ok(()),
    }
}

fn broken(host: &str, error: &reqwest::Error) -> Hitch {
    let host = host.to_owned();
    let why = if error.is_timeout() && !error.is_connect() {
        DownloadError::Stalled { host }
    } else {
        DownloadError::Unreachable {
            host,
            why: innermost(error),
        }
    };
    Hitch::Again { why, wait: None }
}

/// The cause at the bottom: the layers above it only repeat the address.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn refused(host: &str, status: StatusCode) -> DownloadError {
    DownloadError::Refused {
        host: host.to_owned(),
        status: status.as_u16(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Start, and size of the whole file where it is told, of a `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    let total = if total.trim() == "*" {
        None
    } else {
        Some(total.trim().parse().ok()?)
    };
    Some((start, total))
}

fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

/// The host of an address, for reading.
pub(super) fn host_of(url: &str) -> String {
    reqwest::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_error_names_the_proxy_without_its_password() {
        let limits = Limits::of(Path::new("."), None);
        let refused = client(Some("http://me:hunter2@ho st:1"), &limits).unwrap_err();
        let said = format!("{refused} {refused:?}");
        assert!(
            said.contains("ho st:1") && !said.contains("hunter2"),
            "{said}"
        );
    }
}
