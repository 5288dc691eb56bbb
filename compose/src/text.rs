//! Figures as people read them.

use schemas::model::Prequential;

/// Writes a count with commas: `336,776`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a size in the unit that suits it: `5.5 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while 1024.0 <= value && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Writes microseconds since 1970 as a date and time to the minute, UTC.
pub fn moment(micros: i64) -> String {
    let mut text = String::new();
    schemas::write_rfc3339(
        schemas::EventTime(micros.div_euclid(60_000_000) * 60_000_000),
        &mut text,
    );
    text.replace('T', " ").trim_end_matches(":00Z").to_owned()
}

/// Names a number of things.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Writes how well a model version predicted before it learned each label.
pub fn quality(figures: &Prequential) -> String {
    let labels = plural(figures.labels(), "label", "labels");
    match *figures {
        Prequential::YesOrNo { labels: 0, .. }
        | Prequential::Numbers { labels: 0, .. }
        | Prequential::Classes { labels: 0, .. } => "no figures of quality".to_owned(),
        Prequential::YesOrNo {
            log_loss,
            base_log_loss,
            auc,
            ..
        } => format!(
            "log loss {log_loss:.4} (the base rate {base_log_loss:.4}), AUC {auc:.4}, over {labels}"
        ),
        Prequential::Numbers {
            rmse,
            base_rmse,
            mae,
            quantile_loss,
            ..
        } => format!(
            "RMSE {rmse:.4} (the mean {base_rmse:.4}), MAE {mae:.4}, quantile loss {quantile_loss:.4}, over {labels}"
        ),
        Prequential::Classes {
            log_loss,
            base_log_loss,
            accuracy,
            ..
        } => format!(
            "log loss {log_loss:.4} (how often each came {base_log_loss:.4}), accuracy {accuracy:.4}, over {labels}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_told_in_what_fits_the_label() {
        let numbers = Prequential::Numbers {
            labels: 1200,
            rmse: 0.94281,
            base_rmse: 1.125,
            mae: 0.75,
            quantile_loss: 0.375,
        };
        assert_eq!(
            quality(&numbers),
            "RMSE 0.9428 (the mean 1.1250), MAE 0.7500, quantile loss 0.3750, over 1,200 labels"
        );
        assert_eq!(quality(&Prequential::default()), "no figures of quality");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [count(0), count(999), count(1000), count(336_776)],
            ["0", "999", "1,000", "336,776"]
        );
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(5 << 20)],
            ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]
        );
        assert_eq!(moment(1_357_035_359_000_000), "2013-01-01 10:15");
        assert_eq!(
            [plural(1, "label", "labels"), plural(2, "label", "labels")],
            ["1 label", "2 labels"]
        );
    }
}
