//! Guesses which columns are personal data, and whose data an event is. Pure.
//!
//! It errs on the side of sealing: a field that need not be sealed costs a few bytes, one that should have been and was
//! not lies in the lake for ever.

use super::column::{Column, Kind};
use super::looks::words;

/// Words of a name that are about a person whatever stands beside them.
const ALWAYS: [&str; 26] = [
    "email",
    "mail",
    "phone",
    "telephone",
    "tel",
    "msisdn",
    "ssn",
    "iban",
    "passport",
    "imei",
    "surname",
    "firstname",
    "lastname",
    "fullname",
    "username",
    "street",
    "address",
    "ip",
    "dob",
    "birth",
    "birthdate",
    "birthday",
    "licence",
    "license",
    "plate",
    "pan",
];

/// Whom a number or name may stand for, the likeliest subject first.
const WHO: [&str; 20] = [
    "user",
    "customer",
    "account",
    "client",
    "member",
    "patient",
    "person",
    "passenger",
    "subscriber",
    "employee",
    "driver",
    "player",
    "visitor",
    "cardholder",
    "buyer",
    "payer",
    "card",
    "device",
    "cookie",
    "session",
];

/// What follows when a name stands for one of them, and not for a property such as its type.
const HANDLES: [&str; 14] = [
    "id",
    "ids",
    "number",
    "no",
    "nr",
    "num",
    "key",
    "hash",
    "uuid",
    "guid",
    "token",
    "ref",
    "name",
    "fingerprint",
];

/// A column of so few different values in so many rows says what kind somebody is, not who.
const KINDS_MAX: usize = 8;
const KINDS_ROWS: usize = 100;

/// Says why a column looks personal; `None` if it does not.
pub fn personal(column: &Column) -> Option<String> {
    if !matches!(column.kind(), Kind::Int | Kind::Text | Kind::Time) {
        return None;
    }
    by_value(column).or_else(|| by_name(column))
}

fn by_value(column: &Column) -> Option<String> {
    let looks = &column.looks;
    let kinds = [
        (looks.emails, "email addresses"),
        (looks.ips, "IP addresses"),
        (looks.cards, "card numbers"),
        (looks.ibans, "IBANs"),
        (looks.phones, "telephone numbers"),
    ];
    // Something else may stand in a few rows; one in ten numbers has the check digit of a card by chance.
    let most = |count: usize| count > 0 && count * 5 >= column.seen() * 4;
    let (_, what) = kinds.into_iter().find(|(count, _)| most(*count))?;
    Some(format!("its values look like {what}"))
}

fn by_name(column: &Column) -> Option<String> {
    let words = words(&column.name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let time = column.kind() == Kind::Time;
    let birth = words
        .iter()
        .any(|word| word.contains("birth") || *word == "dob");
    let few = column.distinct() <= KINDS_MAX && column.seen() >= KINDS_ROWS;
    if (time && !birth) || few {
        return None;
    }
    let always = words.iter().any(|word| ALWAYS.contains(word));
    let named = match words.as_slice() {
        ["name"] => true,
        [which, "name"] => ["first", "last", "full", "middle"].contains(which),
        _ => false,
    };
    (always || named || who(&words).is_some()).then(|| "its name says so".to_owned())
}

/// Returns the rank of whom a name stands for.
fn who(words: &[&str]) -> Option<usize> {
    let rank = WHO.iter().position(|who| words.contains(who))?;
    let last = words.last()?;
    let stands = *last == WHO[rank] || HANDLES.contains(last);
    stands.then_some(rank)
}

/// Scores a column as the subject: whose data the event is.
pub fn subject_score(column: &Column) -> Option<(i32, String)> {
    personal(column)?;
    if column.kind() == Kind::Time {
        return None;
    }
    let words = words(&column.name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let rank = who(&words).unwrap_or(WHO.len());
    // Of two that are as likely, the one that is there more often.
    let score = 2 * (WHO.len() - rank) as i32 + i32::from(column.counts.nulls == 0);
    Some((
        score,
        "of the personal fields it is the likeliest to say whose event it is".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::seen::Seen;
    use super::*;

    fn column(name: &str, values: impl IntoIterator<Item = String>) -> Column {
        let mut column = Column::new(name, 0);
        for value in values {
            column.add(Seen::untyped(&value));
        }
        column
    }

    fn numbers(name: &str, different: usize) -> Column {
        column(
            name,
            (0..200).map(|row| format!("{}", 1000 + row % different)),
        )
    }

    #[test]
    fn personal_data_shows_in_names_and_values() {
        let check = |column: Column, expected: bool| {
            assert_eq!(personal(&column).is_some(), expected, "{}", column.name);
        };
        check(numbers("customer_id", 100), true);
        check(numbers("userId", 100), true);
        check(numbers("customer_age", 60), false);
        check(numbers("account_type", 3), false);
        check(numbers("product_id", 100), false);
        check(numbers("amount", 100), false);
        check(
            column("contact", (0..50).map(|row| format!("u{row}@example.com"))),
            true,
        );
        check(
            column("peer", (0..50).map(|row| format!("192.0.2.{row}"))),
            true,
        );
        check(
            column("product_name", (0..50).map(|row| format!("thing {row}"))),
            false,
        );
        check(
            column("full_name", (0..50).map(|row| format!("person {row}"))),
            true,
        );
        check(
            column("user_score", (0..50).map(|row| format!("{row}.5"))),
            false,
        );
    }

    #[test]
    fn a_user_is_a_likelier_subject_than_a_device() {
        let score = |name| subject_score(&numbers(name, 100)).map(|(score, _)| score);
        assert!(score("user_id") > score("account_number"));
        assert!(score("account_number") > score("device_id"));
        assert!(score("device_id") > score("phone"));
        assert_eq!(score("amount"), None);
    }
}
