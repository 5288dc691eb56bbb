//! Guesses which features to make of a column. Pure.

use super::column::{Column, Kind};
use super::looks::words;

/// Different whole numbers up to which each is a category.
const FEW: usize = 32;

/// Different whole numbers up to which each is a category beside the number, if it comes often enough.
const MANY: usize = 10_000;

/// Times that a whole number comes, on average, before it is worth a weight of its own.
const TIMES_MIN: usize = 3;

/// Rows from which "every value is different" means something.
const ROWS_MIN: usize = 20;

/// Last words of names of whole numbers that name and do not count.
const NAMES: [&str; 12] = [
    "id", "ids", "code", "number", "no", "nr", "num", "key", "zip", "zipcode", "postcode", "type",
];

/// A feature of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Its value is a category.
    Category,
    /// Its value is a number.
    Number,
    /// Its value is rounded to a whole number and is a category.
    Bucket,
    /// Its words are categories.
    Words,
    /// Its items are categories; what stands between them.
    List(char),
    /// The hour and the weekday are categories.
    Hour,
    /// The weekday and the month are categories.
    Day,
}

/// The features of a column and why, or why there are none.
pub type Guessed = Result<(Vec<Feature>, &'static str), &'static str>;

/// Guesses the features of an open column, or of one that is a token.
pub fn features(column: &Column, is_token: bool) -> Guessed {
    let (seen, distinct) = (column.seen(), column.distinct());
    if seen == 0 {
        return Err("it has no value in the sample");
    }
    if distinct == 1 && column.counts.nulls == 0 {
        return Err("it has one and the same value in every row");
    }
    let unique = seen >= ROWS_MIN && distinct == seen;
    match column.kind() {
        Kind::Empty => Err("it has no value in the sample"),
        Kind::Nested => Err("it has lists or objects"),
        Kind::Text | Kind::Int if is_token && unique => Err(UNIQUE),
        Kind::Time | Kind::Float if is_token => Err("a token of it says nothing"),
        _ if is_token => Ok((
            vec![Feature::Category],
            "by its token: the learner never sees the value",
        )),
        Kind::Bool => Ok((vec![Feature::Category], "true or false")),
        Kind::Float => Ok(floats(column)),
        Kind::Time if column.midnight => Ok((vec![Feature::Day], "a date without the time of day")),
        Kind::Time => Ok((vec![Feature::Hour], "habits go by the hour and the weekday")),
        Kind::Int if column.is_time() => {
            Ok((vec![Feature::Hour], "habits go by the hour and the weekday"))
        }
        Kind::Int => ints(column, unique),
        Kind::Text => texts(column, unique),
    }
}

const UNIQUE: &str = "every value is different, so none ever comes again";

fn floats(column: &Column) -> (Vec<Feature>, &'static str) {
    if column.whole && column.distinct() <= FEW && column.distinct() > 2 {
        return (
            vec![Feature::Number, Feature::Bucket],
            "few whole numbers, so each is worth a weight too",
        );
    }
    (vec![Feature::Number], "a number")
}

fn ints(column: &Column, unique: bool) -> Guessed {
    let distinct = column.distinct();
    let names = words(&column.name)
        .last()
        .is_some_and(|word| NAMES.contains(&word.as_str()));
    let often = distinct * TIMES_MIN <= column.seen();
    if names && unique {
        return Err(UNIQUE);
    }
    Ok(if names || distinct <= 2 {
        (
            vec![Feature::Category],
            "a whole number that names, and does not count",
        )
    } else if distinct <= FEW {
        (
            vec![Feature::Number, Feature::Category],
            "few whole numbers, so each is worth a weight too",
        )
    } else if distinct <= MANY && often {
        (
            vec![Feature::Number, Feature::Category],
            "a count or a name: its numbers come again and again, so both",
        )
    } else {
        (vec![Feature::Number], "a number")
    })
}

fn texts(column: &Column, unique: bool) -> Guessed {
    let looks = &column.looks;
    let most = |count: usize| count * 2 >= column.seen();
    // Lists of one item have no separator.
    let some = |count: usize| count * 5 >= column.seen();
    if some(looks.bars) {
        Ok((vec![Feature::List('|')], "a list"))
    } else if some(looks.semicolons) && !most(looks.sentences) {
        Ok((vec![Feature::List(';')], "a list"))
    } else if most(looks.sentences) && column.distinct() > FEW {
        Ok((vec![Feature::Words], "texts of several words"))
    } else if unique {
        Err(UNIQUE)
    } else {
        Ok((vec![Feature::Category], "a category"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::Seen;
    use super::*;

    fn column(name: &str, value: impl Fn(usize) -> String) -> Column {
        let mut column = Column::new(name, 0);
        for row in 0..300 {
            column.add(Seen::untyped(&value(row)));
        }
        column
    }

    #[test]
    fn features_follow_from_what_was_seen() {
        let check = |column: Column, expected: Option<&[Feature]>| {
            let guessed = features(&column, false);
            let guessed = guessed
                .as_ref()
                .ok()
                .map(|(features, _)| features.as_slice());
            assert_eq!(guessed, expected, "{}", column.name);
        };
        use Feature::{Bucket, Category, Hour, List, Number, Words};
        check(column("empty", |_| String::new()), None);
        check(column("constant", |_| "x".to_owned()), None);
        check(
            column("flag", |row| (row % 2 == 0).to_string()),
            Some(&[Category]),
        );
        check(column("amount", |row| format!("{row}.25")), Some(&[Number]));
        check(
            column("visibility", |row| format!("{}.0", row % 5)),
            Some(&[Number, Bucket]),
        );
        check(
            column("hour", |row| (row % 24).to_string()),
            Some(&[Number, Category]),
        );
        check(
            column("item_id", |row| (row % 70).to_string()),
            Some(&[Category]),
        );
        check(column("order_id", |row| row.to_string()), None);
        check(column("total", |row| row.to_string()), Some(&[Number]));
        check(
            column("carrier", |row| format!("C{}", row % 9)),
            Some(&[Category]),
        );
        check(column("hash", |row| format!("h{row}")), None);
        check(
            column("genres", |row| format!("a|b{}", row % 9)),
            Some(&[List('|')]),
        );
        check(
            column("review", |row| format!("a text of {row} words")),
            Some(&[Words]),
        );
        check(
            column("seen", |row| format!("2013-01-01T{:02}:00:00Z", row % 24)),
            Some(&[Hour]),
        );
    }

    #[test]
    fn of_a_token_there_is_only_the_category() {
        let number = column("user_id", |row| (row % 70).to_string());
        let (made, _) = features(&number, true).unwrap();
        assert_eq!(made, [Feature::Category]);
        let unique = column("email", |row| format!("u{row}@example.com"));
        assert!(features(&unique, true).is_err());
    }
}
