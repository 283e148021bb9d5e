//! Bookmarks: a place in the journal as text (`ws-management.md` §9.3).

use crate::cimom::JournalWindow;
use crate::soap::{Fault, Subcode, code, detail};
use crate::time::Guid;

/// The bookmark in front of everything that is there.
const EARLIEST: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/bookmark/earliest";

/// A place in the journal of this installation.
pub(super) fn write(installation: Guid, position: u64) -> String {
    format!("{installation}:{position}")
}

/// The position behind which a subscription with this bookmark goes on.
pub(super) fn read(text: &str, installation: Guid, window: JournalWindow) -> Result<u64, Fault> {
    if text == EARLIEST {
        return Ok(window.readable_after);
    }
    let wrong =
        |name, number, reason: &str| Err(Fault::new(Subcode::InvalidBookmark).detail(name, number).reason(reason));
    let parts = text.split_once(':').and_then(|(guid, position)| {
        let is_number = !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_digit());
        Some((guid.parse::<Guid>().ok()?, position.parse::<u64>().ok().filter(|_| is_number)?))
    });
    match parts {
        None => wrong(detail::INVALID_FORMAT, code::INVALID_BOOKMARK, "The bookmark is not one of this server."),
        Some((guid, position)) if guid != installation || position > window.newest => {
            wrong(detail::INVALID, code::INVALID_BOOKMARK, "The bookmark was not made by this installation.")
        }
        Some((_, position)) if position < window.readable_after => wrong(
            detail::EXPIRED,
            code::BOOKMARK_EXPIRED,
            "The events behind the bookmark are no longer kept; subscribe with the earliest bookmark or with none.",
        ),
        Some((_, position)) => Ok(position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_are_read_back_and_others_are_refused_each_with_its_detail() {
        let here: Guid = "7B5D1C2E-0001-4A59-9F30-9F2B7F1B6A01".parse().unwrap();
        let window = JournalWindow { readable_after: 10, newest: 20 };
        assert_eq!(read(&write(here, 15), here, window).ok(), Some(15));
        assert_eq!(read(&write(here, 10), here, window).ok(), Some(10));
        assert_eq!(read(EARLIEST, here, window).ok(), Some(10));
        for (text, detail) in [
            (write(here, 9), detail::EXPIRED),
            (write(here, 21), detail::INVALID),
            ("7B5D1C2E-0002-4A59-9F30-9F2B7F1B6A01:15".to_owned(), detail::INVALID),
            (format!("{here}:+15"), detail::INVALID_FORMAT),
            (format!("{here}:"), detail::INVALID_FORMAT),
            (format!("{here}:99999999999999999999"), detail::INVALID_FORMAT),
            (String::new(), detail::INVALID_FORMAT),
            ("garbage".to_owned(), detail::INVALID_FORMAT),
        ] {
            let fault = read(&text, here, window).unwrap_err();
            assert_eq!(fault.fault_detail, Some(detail), "{text}");
        }
    }
}
