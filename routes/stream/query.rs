//! The query of a subscription.

use cm_core::error::ErrorCode;

use super::resume::Position;
use crate::answer::{ApiError, invalid};

/// What a client asks for when it connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscribe {
    /// The only session to hear of.
    pub(super) filter: Option<String>,
    /// Where it left off.
    pub(super) since: Option<Position>,
    /// Whether it wants each thing once.
    pub(super) single: bool,
}

impl Subscribe {
    /// Reads a query. As in version 1, only one non-empty `threadId` is a filter; everything else
    /// is none, and unknown names are ignored.
    ///
    /// # Errors
    ///
    /// For a `since` that is no position, and a `view` that does not exist.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))?
            .into_inner();
        let all = |wanted: &'static str| {
            pairs.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let mut threads = all("threadId");
        let first = threads.next().filter(|id| !id.is_empty());
        let filter = first.filter(|_| threads.next().is_none()).map(str::to_owned);
        let since = match all("since").next_back() {
            None => None,
            Some(text) => Some(position("since", text)?),
        };
        let single = match all("view").next_back() {
            None | Some("default") => false,
            Some("single") => true,
            Some(_) => return Err(invalid("view", "must be `default` or `single`")),
        };
        Ok(Self { filter, since, single })
    }
}

/// A position that a client names.
///
/// # Errors
///
/// When it is none.
pub(super) fn position(name: &str, text: &str) -> Result<Position, ApiError> {
    let wanted = "must be `<epoch>:<seq>`, as frames carry them";
    Position::parse(text).ok_or_else(|| invalid(name, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_named_thread_is_a_filter() {
        let filter = |query: &str| Subscribe::parse(query).unwrap().filter;
        assert_eq!(filter("threadId=a").as_deref(), Some("a"));
        for query in ["", "threadId=", "threadId=a&threadId=b", "other=a"] {
            assert_eq!(filter(query), None, "{query}");
        }
    }

    #[test]
    fn positions_and_views_are_checked() {
        let asked = Subscribe::parse("since=e%3A7&view=single").unwrap();
        assert_eq!((asked.since, asked.single), (Position::parse("e:7"), true));
        assert!(Subscribe::parse("since=7").is_err());
        assert!(Subscribe::parse("view=double").is_err());
    }
}
