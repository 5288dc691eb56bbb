//! How good scores were, once labels are known.

/// A score is kept this far from certainty when its loss is taken.
const CLIP: f64 = 1e-12;
/// Bins of the running AUC; ties within a bin count half.
const BINS: usize = 2048;

/// A score and what became of its event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// When the event happened, in microseconds.
    pub micros: i64,
    /// Probability that was served.
    pub score: f64,
    /// The label.
    pub label: bool,
}

/// Log loss of one score, in nats.
pub fn log_loss(score: f64, label: bool) -> f64 {
    let score = score.clamp(CLIP, 1.0 - CLIP);
    if label {
        -score.ln()
    } else {
        -(-score).ln_1p()
    }
}

/// Area under the ROC curve, ties counting half; `None` without both labels.
pub fn auc(judged: &[Judged]) -> Option<f64> {
    let mut sorted: Vec<(f64, bool)> = judged.iter().map(|one| (one.score, one.label)).collect();
    sorted.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let (mut yes, mut no, mut area) = (0_u64, 0_u64, 0.0);
    for tied in sorted.chunk_by(|one, other| one.0 == other.0) {
        let tied_yes = tied.iter().filter(|one| one.1).count() as u64;
        let tied_no = tied.len() as u64 - tied_yes;
        area += tied_yes as f64 * (no as f64 + tied_no as f64 / 2.0);
        yes += tied_yes;
        no += tied_no;
    }
    (yes != 0 && no != 0).then(|| area / (yes as f64 * no as f64))
}

/// Predicts the share of yes so far, and nothing else: what a model must beat.
#[derive(Clone, Copy, Debug, Default)]
pub struct BaseRate {
    yes: u64,
    all: u64,
}

impl BaseRate {
    /// Returns the loss of predicting the share so far, then learns the label.
    pub fn loss_then_learn(&mut self, label: bool) -> f64 {
        let share = (self.yes as f64 + 1.0) / (self.all as f64 + 2.0);
        self.yes += u64::from(label);
        self.all += 1;
        log_loss(share, label)
    }
}

/// Figures of all scores so far, while they come.
#[derive(Clone, Debug)]
pub struct Running {
    judged: u64,
    loss: f64,
    base: BaseRate,
    base_loss: f64,
    bins: Vec<[u64; 2]>,
}

impl Default for Running {
    fn default() -> Running {
        Running {
            judged: 0,
            loss: 0.0,
            base: BaseRate::default(),
            base_loss: 0.0,
            bins: vec![[0; 2]; BINS],
        }
    }
}

impl Running {
    /// Takes one score.
    pub fn add(&mut self, score: f64, label: bool) {
        self.judged += 1;
        self.loss += log_loss(score, label);
        self.base_loss += self.base.loss_then_learn(label);
        let bin = (score * BINS as f64) as usize;
        self.bins[bin.min(BINS - 1)][usize::from(label)] += 1;
    }

    /// Returns mean log loss, that of the base rate, and the AUC to the width of a bin.
    pub fn figures(&self) -> Option<(f64, f64, f64)> {
        let (mut area, mut no, mut yes) = (0.0, 0.0, 0.0);
        for [bin_no, bin_yes] in &self.bins {
            area += *bin_yes as f64 * (no + *bin_no as f64 / 2.0);
            no += *bin_no as f64;
            yes += *bin_yes as f64;
        }
        let judged = self.judged as f64;
        (yes != 0.0 && no != 0.0).then(|| {
            (
                self.loss / judged,
                self.base_loss / judged,
                area / (yes * no),
            )
        })
    }
}

/// One stretch of stream time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its middle, in microseconds.
    pub micros: i64,
    /// Mean log loss.
    pub log_loss: f64,
    /// Mean log loss of the base rate.
    pub base_log_loss: f64,
    /// Area under the ROC curve, where there were both labels.
    pub auc: Option<f64>,
}

/// One bin of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationBin {
    /// Mean score.
    pub predicted: f64,
    /// Share of yes.
    pub observed: f64,
    /// Scores in the bin.
    pub count: u64,
}

/// Everything about a run's scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Scores with a label.
    pub judged: u64,
    /// Mean log loss, in nats.
    pub log_loss: f64,
    /// Mean log loss of always predicting the base rate so far.
    pub base_log_loss: f64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Stretches of stream time, of equally many scores.
    pub windows: Vec<Window>,
    /// Scores by tens of percent.
    pub calibration: Vec<CalibrationBin>,
}

impl Quality {
    /// Judges scores in the order of stream time; `None` without both labels.
    pub fn of(judged: &[Judged], windows: usize, bins: usize) -> Option<Quality> {
        let area = auc(judged)?;
        let mut base = BaseRate::default();
        let losses: Vec<(f64, f64)> = judged
            .iter()
            .map(|one| {
                (
                    log_loss(one.score, one.label),
                    base.loss_then_learn(one.label),
                )
            })
            .collect();
        let mean = |losses: &[(f64, f64)]| {
            let sum = losses
                .iter()
                .fold((0.0, 0.0), |sum, loss| (sum.0 + loss.0, sum.1 + loss.1));
            (sum.0 / losses.len() as f64, sum.1 / losses.len() as f64)
        };
        let size = judged.len().div_ceil(windows.max(1)).max(1);
        let stretches = judged
            .chunks(size)
            .zip(losses.chunks(size))
            .map(|(judged, losses)| {
                let (log_loss, base_log_loss) = mean(losses);
                Window {
                    micros: judged[judged.len() / 2].micros,
                    log_loss,
                    base_log_loss,
                    auc: auc(judged),
                }
            });
        let (total, base_total) = mean(&losses);
        Some(Quality {
            judged: judged.len() as u64,
            log_loss: total,
            base_log_loss: base_total,
            auc: area,
            windows: stretches.collect(),
            calibration: calibration(judged, bins),
        })
    }
}

fn calibration(judged: &[Judged], bins: usize) -> Vec<CalibrationBin> {
    let mut sums = vec![(0.0, 0_u64, 0_u64); bins.max(1)];
    for one in judged {
        let at = ((one.score * sums.len() as f64) as usize).min(sums.len() - 1);
        let (score, yes, count) = &mut sums[at];
        *score += one.score;
        *yes += u64::from(one.label);
        *count += 1;
    }
    let filled = sums.into_iter().filter(|(.., count)| 0 < *count);
    filled
        .map(|(score, yes, count)| CalibrationBin {
            predicted: score / count as f64,
            observed: yes as f64 / count as f64,
            count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(f64, bool)]) -> Vec<Judged> {
        let one = |(at, (score, label)): (usize, &(f64, bool))| Judged {
            micros: at as i64,
            score: *score,
            label: *label,
        };
        pairs.iter().enumerate().map(one).collect()
    }

    #[test]
    fn areas_are_those_of_the_definition() {
        assert_eq!(auc(&judged(&[(0.1, false), (0.9, true)])), Some(1.0));
        assert_eq!(auc(&judged(&[(0.9, false), (0.1, true)])), Some(0.0));
        assert_eq!(auc(&judged(&[(0.5, false), (0.5, true)])), Some(0.5));
        assert_eq!(
            auc(&judged(&[
                (0.1, false),
                (0.4, false),
                (0.35, true),
                (0.8, true)
            ])),
            Some(0.75)
        );
        assert_eq!(auc(&judged(&[(0.1, true)])), None);
    }

    #[test]
    fn losses_are_in_nats_and_finite() {
        assert!((log_loss(0.5, true) - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((log_loss(0.9, false) - 10f64.ln()).abs() < 1e-9);
        assert!(log_loss(0.0, true).is_finite() && log_loss(1.0, false).is_finite());
    }

    #[test]
    fn running_figures_agree_with_the_final_ones() {
        let all: Vec<(f64, bool)> = (0..5000_u32)
            .map(|n| {
                let score = f64::from(n.wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
                (
                    score,
                    f64::from(n.wrapping_mul(40_503) % 997) / 997.0 < score,
                )
            })
            .collect();
        let mut running = Running::default();
        all.iter()
            .for_each(|(score, label)| running.add(*score, *label));
        let quality = Quality::of(&judged(&all), 10, 10).unwrap();
        let (loss, base, area) = running.figures().unwrap();
        assert!(
            (loss - quality.log_loss).abs() < 1e-9 && (base - quality.base_log_loss).abs() < 1e-9
        );
        assert!((area - quality.auc).abs() < 1e-3);
        assert_eq!((quality.windows.len(), quality.calibration.len()), (10, 10));
        assert_eq!(
            quality.calibration.iter().map(|bin| bin.count).sum::<u64>(),
            5000
        );
        assert!(
            quality
                .calibration
                .iter()
                .all(|bin| (bin.predicted - bin.observed).abs() < 0.1)
        );
    }
}
