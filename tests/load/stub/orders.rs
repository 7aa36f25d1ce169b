//! What the text of a message asks for: one order a line, `name key=value …`.

/// One thing that a turn does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `flood count=1000000 bytes=16`: deltas of one message, as fast as they are taken.
    Flood {
        /// How many.
        count: u64,
        /// Bytes of text in each.
        bytes: usize,
    },
    /// `pace rate=500 seconds=20`: deltas with the time of their emission in them.
    Pace {
        /// How many in a second.
        rate: u64,
        /// For how long.
        seconds: u64,
    },
    /// `line bytes=100000000`: one completed message whose line has about so many bytes.
    Line {
        /// Its length.
        bytes: usize,
    },
    /// `items count=1000 bytes=100`: completed messages.
    Items {
        /// How many.
        count: u64,
        /// Bytes of text in each.
        bytes: usize,
    },
    /// `hang`: nothing more until the turn is interrupted.
    Hang,
}

/// Reads the orders of a message. Any other text, and `end`, is a turn that ends at once.
pub(super) fn parse(text: &str) -> Vec<Order> {
    text.lines().filter_map(order).collect()
}

fn order(line: &str) -> Option<Order> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let pairs: Vec<(&str, u64)> = words
        .filter_map(|word| word.split_once('='))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect();
    let value = |key: &str| pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
    let size = |key: &str| value(key).and_then(|value| usize::try_from(value).ok());
    match name {
        "flood" => Some(Order::Flood { count: value("count")?, bytes: size("bytes")? }),
        "pace" => Some(Order::Pace { rate: value("rate")?.max(1), seconds: value("seconds")? }),
        "line" => Some(Order::Line { bytes: size("bytes")? }),
        "items" => Some(Order::Items { count: value("count")?, bytes: size("bytes")? }),
        "hang" => Some(Order::Hang),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_order_and_other_text_is_none() {
        let orders = parse("flood count=3 bytes=16\npace rate=0 seconds=2\nend\nhello count=1");
        let expected = [Order::Flood { count: 3, bytes: 16 }, Order::Pace { rate: 1, seconds: 2 }];
        assert_eq!(orders, expected);
        assert_eq!(parse("line bytes=9\nhang"), [Order::Line { bytes: 9 }, Order::Hang]);
        assert_eq!(parse("flood count=x bytes=1"), []);
    }
}
