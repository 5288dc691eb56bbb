//! Metrics against their definitions on small sets.

use super::*;

/// Numbers in (0, 1) that look random and are always the same.
fn noise(seed: u64) -> impl Iterator<Item = f64> {
    let hash = move |at: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed);
    (0..).map(move |at| (hash(at) >> 11) as f64 / (1_u64 << 53) as f64)
}

fn examples(count: usize) -> Vec<(f64, bool)> {
    let predictions = noise(1).map(|uniform| uniform * uniform);
    let outcomes = noise(2);
    predictions
        .zip(outcomes)
        .map(|(p, uniform)| (p, uniform < p))
        .take(count)
        .collect()
}

fn quality(examples: &[(f64, bool)]) -> Quality {
    let mut quality = Quality::new(0.5);
    examples
        .iter()
        .for_each(|(p, label)| quality.observe(*p, *label, 0.5));
    quality
}

fn config() -> MetricsConfig {
    MetricsConfig {
        threshold: 0.5,
        recent_labels: 1000,
        stretch_micros: 3_600_000_000,
        stretches_max: 3,
    }
}

#[test]
fn figures_are_their_definitions() {
    let examples = examples(3000);
    let summary = quality(&examples).summary().unwrap();
    let mean = |of: &dyn Fn(f64, bool) -> f64| {
        examples
            .iter()
            .map(|(p, label)| of(*p, *label))
            .sum::<f64>()
            / examples.len() as f64
    };
    let loss = mean(&|p, label| if label { -p.ln() } else { -(1.0 - p).ln() });
    assert!((summary.log_loss - loss).abs() < 1e-12);
    let brier = mean(&|p, label| (p - f64::from(u8::from(label))).powi(2));
    assert!((summary.brier - brier).abs() < 1e-12);
    let right = mean(&|p, label| f64::from(u8::from((0.5 <= p) == label)));
    assert!((summary.accuracy - right).abs() < 1e-12);
    assert!((summary.base_log_loss - 2_f64.ln()).abs() < 1e-12);
    let decided: Vec<_> = examples.iter().filter(|(p, _)| 0.5 <= *p).collect();
    let hits = decided.iter().filter(|(_, label)| *label).count();
    let positives = examples.iter().filter(|(_, label)| *label).count();
    assert_eq!(summary.precision, Some(hits as f64 / decided.len() as f64));
    assert_eq!(summary.recall, Some(hits as f64 / positives as f64));
    assert_eq!(summary.positives, positives as u64);
}

#[test]
fn auc_is_within_its_bound_of_the_exact_one() {
    for scale in [1.0, 1e-3, 1e-6] {
        let examples: Vec<_> = examples(2000)
            .into_iter()
            .map(|(p, label)| (p * scale, label))
            .collect();
        let auc = quality(&examples).summary().unwrap().auc.unwrap();
        let (mut won, mut pairs) = (0.0, 0.0);
        for (yes, _) in examples.iter().filter(|(_, label)| *label) {
            for (no, _) in examples.iter().filter(|(_, label)| !*label) {
                won += f64::from(u8::from(no < yes)) + 0.5 * f64::from(u8::from(no == yes));
                pairs += 1.0;
            }
        }
        assert!(
            (auc.area - won / pairs).abs() <= auc.error_max + 1e-12,
            "{scale}"
        );
        assert!(
            scale < 1e-4 || auc.error_max < 0.01,
            "{scale}: {}",
            auc.error_max
        );
    }
}

#[test]
fn calibrated_predictions_have_little_error_and_tilted_ones_much() {
    let examples = examples(20_000);
    let summary = quality(&examples).summary().unwrap();
    assert!(summary.ece < 0.02, "{}", summary.ece);
    assert!((15..=20).contains(&summary.calibration.len()));
    assert_eq!(
        summary
            .calibration
            .iter()
            .map(|group| group.labels)
            .sum::<u64>(),
        20_000
    );
    let tilted: Vec<_> = examples
        .iter()
        .map(|(p, label)| (p * 0.5, *label))
        .collect();
    assert!(quality(&tilted).summary().unwrap().ece > 0.1);
}

#[test]
fn parts_merge_to_the_whole() {
    let examples = examples(3000);
    let mut merged = quality(&examples[..1000]);
    merged.merge(&quality(&examples[1000..]));
    let (merged, whole) = (
        merged.summary().unwrap(),
        quality(&examples).summary().unwrap(),
    );
    assert_eq!(merged.auc, whole.auc);
    assert_eq!(
        (merged.labels, merged.positives),
        (whole.labels, whole.positives)
    );
    assert!((merged.log_loss - whole.log_loss).abs() < 1e-12);
}

#[test]
fn one_class_nothing_and_nonsense_are_no_trouble() {
    assert_eq!(Quality::new(0.5).summary(), None);
    let mut quality = quality(&[(0.0, false), (0.0, true), (1.0, true)]);
    quality.observe(f64::NAN, true, 0.5);
    quality.observe(1.5, true, 0.5);
    assert_eq!(quality.labels(), 3);
    assert!(quality.summary().unwrap().log_loss.is_finite());
    let yes_only = self::quality(&[(0.2, true)]).summary().unwrap();
    assert_eq!((yes_only.auc, yes_only.precision), (None, None));
}

#[test]
fn windows_forget_and_stay_bounded() {
    let mut metrics = Metrics::new(config());
    for (at, (p, label)) in examples(30_000).into_iter().enumerate() {
        metrics.observe(p, label, at as i64 * 1_000_000);
        assert!(metrics.last_labels().labels() <= 1000);
    }
    assert_eq!(metrics.all_time().labels(), 30_000);
    assert!(900 < metrics.last_labels().labels());
    let starts: Vec<i64> = metrics
        .stretches()
        .map(|(start, _)| start / 3_600_000_000)
        .collect();
    assert_eq!(starts, [6, 7, 8]);
    metrics.observe(0.5, true, 0);
    assert_eq!(
        metrics.stretches().len(),
        3,
        "what is too late for its stretch counts in the others only"
    );
    assert_eq!(metrics.prequential().labels(), 30_001);
}

#[test]
fn a_snapshot_changes_nothing() {
    let mut metrics = Metrics::new(config());
    for (at, (p, label)) in examples(5000).into_iter().enumerate() {
        if at == 2500 {
            metrics = Metrics::from_bytes(config(), &metrics.to_bytes()).unwrap();
        }
        metrics.observe(p, label, at as i64 * 4_000_000);
    }
    let mut straight = Metrics::new(config());
    for (at, (p, label)) in examples(5000).into_iter().enumerate() {
        straight.observe(p, label, at as i64 * 4_000_000);
    }
    assert_eq!(metrics, straight);
    let bytes = metrics.to_bytes();
    for cut in [0, 3, 8, 100, bytes.len() - 1] {
        assert!(Metrics::from_bytes(config(), &bytes[..cut]).is_err());
    }
    // Behind magic, version and four sums stand the counts of decisions, whose sum must have room.
    let mut many = bytes;
    many[40..48].fill(0xff);
    assert!(Metrics::from_bytes(config(), &many).is_err());
}

/// Follows precision over recall label by label; between two of a kind as counts make it.
fn precision_area(mut examples: Vec<(f64, bool)>) -> f64 {
    examples.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (mut yes, mut no, mut area) = (0.0_f64, 0.0_f64, 0.0);
    for (_, label) in &examples {
        if *label {
            area += if no == 0.0 {
                1.0
            } else {
                1.0 - no * (1.0 / (yes + no)).ln_1p()
            };
            yes += 1.0;
        } else {
            no += 1.0;
        }
    }
    area / yes
}

#[test]
fn precision_over_recall_is_within_its_bound() {
    for count in [50, 1000, 20_000] {
        let examples = examples(count);
        let found = quality(&examples).summary().unwrap().pr_auc.unwrap();
        let expected = precision_area(examples);
        assert!(
            (found.area - expected).abs() <= found.error_max + 1e-12,
            "{found:?}, not {expected}"
        );
        assert!(found.error_max < 0.01, "{found:?}");
    }
    assert_eq!(quality(&[(0.5, false)]).summary().unwrap().pr_auc, None);
    let best = quality(&[(0.9, true), (0.1, false)]).summary().unwrap();
    assert_eq!(best.pr_auc.map(|auc| auc.area), Some(1.0));
}

#[test]
fn the_brier_score_splits_into_its_parts() {
    // Predictions that are the same within each group leave nothing over.
    let examples: Vec<(f64, bool)> = (0..1000)
        .map(|at| match at % 5 {
            0 | 1 => (0.2, at % 10 == 0),
            _ => (0.7, at % 3 == 0),
        })
        .collect();
    let summary = quality(&examples).summary().unwrap();
    let BrierSplit {
        reliability,
        resolution,
        uncertainty,
    } = summary.brier_split;
    let whole = reliability - resolution + uncertainty;
    assert!((whole - summary.brier).abs() < 1e-12, "{summary:?}");
    assert!(0.0 < resolution && 0.0 < reliability);
}
