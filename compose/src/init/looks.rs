//! What a name or a text looks like. Pure; a wrong guess costs a comment that the reader strikes out.

use schemas::parse_rfc3339;

/// What people write where they have no value, in files without types.
const MISSING: [&str; 11] = [
    "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-", "\\N",
];

/// What a text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// An email address.
    Email,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A payment card: 13 to 19 digits whose check digit is right.
    Card,
    /// An IBAN whose check digits are right.
    Iban,
    /// A telephone number with its country's code, or with punctuation.
    Phone,
    /// A date, or a time without a zone, which no contract reads.
    LocalTime,
    /// Anything else.
    Plain,
}

/// Splits a name into its words, in lower case: `isFraud` and `is_fraud` alike.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for letter in name.chars() {
        let begins = letter.is_uppercase() && lower_before;
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            let last = words.len() - 1;
            words[last].extend(letter.to_lowercase());
        }
        lower_before = letter.is_lowercase() || letter.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Says whether a text of a file without types stands for no value.
pub fn is_missing(text: &str) -> bool {
    text.trim().is_empty() || MISSING.contains(&text.trim())
}

/// Says what a text looks like.
pub fn look(text: &str) -> Look {
    let text = text.trim();
    if text.len() > 254 || text.is_empty() {
        Look::Plain
    } else if is_email(text) {
        Look::Email
    } else if text.len() > 3 && text.parse::<std::net::IpAddr>().is_ok() {
        Look::Ip
    } else if is_local_time(text) {
        Look::LocalTime
    } else if is_iban(text) {
        Look::Iban
    } else if is_card(text) {
        Look::Card
    } else if is_phone(text) {
        Look::Phone
    } else {
        Look::Plain
    }
}

fn is_email(text: &str) -> bool {
    let Some((user, host)) = text.split_once('@') else {
        return false;
    };
    let legal = |c: char| !c.is_whitespace() && c != '@';
    let dotted = host
        .split_once('.')
        .is_some_and(|(name, end)| !name.is_empty() && end.len() > 1);
    !user.is_empty() && dotted && user.chars().chain(host.chars()).all(legal)
}

fn digits(text: &str, between: &[char]) -> Option<Vec<u32>> {
    text.chars()
        .filter(|c| !between.contains(c))
        .map(|c| c.to_digit(10))
        .collect()
}

fn is_card(text: &str) -> bool {
    let Some(digits) = digits(text, &[' ', '-']) else {
        return false;
    };
    if !(13..=19).contains(&digits.len()) || digits[0] == 0 {
        return false;
    }
    // Luhn: every second digit from the right counts double, and its digits are added.
    let sum = digits.iter().rev().enumerate().map(|(at, digit)| {
        let doubled = digit * (1 + at as u32 % 2);
        doubled / 10 + doubled % 10
    });
    sum.sum::<u32>().is_multiple_of(10)
}

fn is_iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| *c != ' ').collect();
    let country = plain.iter().take(2).all(char::is_ascii_uppercase);
    let check = plain.iter().skip(2).take(2).all(char::is_ascii_digit);
    if !country || !check || !(15..=34).contains(&plain.len()) {
        return false;
    }
    let turned = plain[4..].iter().chain(&plain[..4]);
    let rest = turned
        .map(|c| c.to_digit(36))
        .try_fold(0_u32, |rest, digit| {
            let digit = digit?;
            let shift = if digit < 10 { 10 } else { 100 };
            Some((rest * shift + digit) % 97)
        });
    rest == Some(1)
}

/// Takes a number with `+`, or one with punctuation that no decimal number has.
fn is_phone(text: &str) -> bool {
    let Some(digits) = digits(text, &['+', ' ', '-', '(', ')', '.', '/']) else {
        return false;
    };
    let breaks = text.chars().filter(|c| " -()/.".contains(*c)).count();
    // A day such as 31.12.2013 has eight digits.
    let least = if text.starts_with('+') { 8 } else { 9 };
    let written = text.starts_with('+') || (breaks >= 2 && !text.starts_with('-'));
    written && (least..=15).contains(&digits.len())
}

/// Takes `2013-01-31` and `2013-01-31 10:15[:00[.5]]`, which become RFC 3339 with a zone.
fn is_local_time(text: &str) -> bool {
    let filled = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19.. => format!("{text}Z"),
        _ => return false,
    };
    parse_rfc3339(&filled).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fall_into_words() {
        let check = |name: &str, expected: &[&str]| assert_eq!(words(name), expected, "{name}");
        check("is_fraud", &["is", "fraud"]);
        check("isFraud", &["is", "fraud"]);
        check("IP", &["ip"]);
        check("card number", &["card", "number"]);
        check("__", &[]);
        check("V14", &["v14"]);
    }

    #[test]
    fn texts_look_like_what_they_are() {
        let check = |text: &str, expected: Look| assert_eq!(look(text), expected, "{text}");
        check("ada@example.com", Look::Email);
        check("ada@localhost", Look::Plain);
        check("a b@example.com", Look::Plain);
        check("192.0.2.7", Look::Ip);
        check("2001:db8::1", Look::Ip);
        check("4111 1111 1111 1111", Look::Card);
        check("4111 1111 1111 1112", Look::Plain);
        check("GB82 WEST 1234 5698 7654 32", Look::Iban);
        check("GB83 WEST 1234 5698 7654 32", Look::Plain);
        check("+44 20 7946 0958", Look::Phone);
        check("(020) 7946-0958", Look::Phone);
        check("1234567890", Look::Plain);
        check("31.12.2013", Look::Plain);
        check("2013-01-31", Look::LocalTime);
        check("2013-01-31 10:15:00", Look::LocalTime);
        check("2013-02-31", Look::Plain);
        check("N14228", Look::Plain);
        check("", Look::Plain);
        check("飛行機", Look::Plain);
    }
}
