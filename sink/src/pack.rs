//! Which small files are put together: a pure decision.

use std::collections::BTreeMap;

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name, from the table's folder on.
    pub path: String,
    /// Its day, as the partition column says.
    pub day: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows, where the log says so.
    pub rows: Option<u64>,
    /// When its newest rows landed, in milliseconds since 1970.
    pub modified: i64,
    /// The smallest source offset in it: of files that landed at once, the earlier has the smaller one.
    pub first_offset: i64,
}

/// When files are put together, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files below this size are small.
    pub small_file_bytes: u64,
    /// So many small files of one day are put together; 0 leaves all as they are.
    pub compact_after: usize,
    /// Whether only files of about one size count. A byte is then written again a few times in all, once for each
    /// size that its file grows through, and not with every round.
    pub alike: bool,
    /// Files of this size together are one pack at most: this bounds the memory.
    pub pack_bytes_max: u64,
}

/// Small files of one day that become one, in the order in which they landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// The day.
    pub day: String,
    /// At least two files.
    pub files: Vec<Kept>,
}

/// Files of one pack: a commit names each of them.
const PACK_FILES_MAX: usize = 1000;

impl Pack {
    /// Returns the size of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Decides which files are put together now.
pub fn plan(files: Vec<Kept>, limits: &Limits) -> Vec<Pack> {
    if limits.compact_after == 0 {
        return Vec::new();
    }
    let mut days: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
    for file in files {
        if file.bytes < limits.small_file_bytes {
            days.entry(file.day.clone()).or_default().push(file);
        }
    }
    let packs = days.into_iter().flat_map(|(day, files)| {
        let chosen = choose(files, limits);
        fill(chosen, limits)
            .into_iter()
            .filter(|files| 2 <= files.len())
            .map(move |files| Pack {
                day: day.clone(),
                files,
            })
    });
    packs.collect()
}

/// Returns the largest class of size that has enough files, and what is smaller.
fn choose(mut files: Vec<Kept>, limits: &Limits) -> Vec<Kept> {
    let least = limits.compact_after.max(2);
    let class = |file: &Kept| match limits.alike {
        true => file.bytes.max(1).ilog(least as u64),
        false => 0,
    };
    let mut classes: BTreeMap<u32, usize> = BTreeMap::new();
    for file in &files {
        *classes.entry(class(file)).or_default() += 1;
    }
    let full = classes.iter().rev().find(|(_, count)| least <= **count);
    let Some((largest, _)) = full else {
        return Vec::new();
    };
    files.retain(|file| class(file) <= *largest);
    files
}

/// Fills packs with files in the order in which they landed.
fn fill(mut files: Vec<Kept>, limits: &Limits) -> Vec<Vec<Kept>> {
    let order = |file: &Kept| (file.modified, file.first_offset);
    files.sort_by(|one, other| (order(one), &one.path).cmp(&(order(other), &other.path)));
    let mut packs: Vec<Vec<Kept>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        bytes += file.bytes;
        match packs.last_mut() {
            Some(pack) if bytes <= limits.pack_bytes_max && pack.len() < PACK_FILES_MAX => {
                pack.push(file);
            }
            _ => {
                bytes = file.bytes;
                packs.push(vec![file]);
            }
        }
    }
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        small_file_bytes: 1000,
        compact_after: 4,
        alike: true,
        pack_bytes_max: 2000,
    };

    /// Plans for files of days and sizes that landed in this order; returns the sizes in each pack.
    fn check(limits: &Limits, files: &[(&str, u64)], expected: &[(&str, &[u64])]) {
        let kept = files.iter().enumerate().map(|(at, (day, bytes))| Kept {
            path: format!("{}", files.len() - at),
            day: (*day).to_owned(),
            bytes: *bytes,
            rows: None,
            // Two at a time.
            modified: at as i64 / 2,
            first_offset: at as i64,
        });
        let packs = plan(kept.rev().collect(), limits);
        let found: Vec<(&str, Vec<u64>)> = packs
            .iter()
            .map(|pack| {
                let sizes = pack.files.iter().map(|file| file.bytes);
                (pack.day.as_str(), sizes.collect())
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(day, sizes)| (*day, sizes.to_vec()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_day_with_enough_small_files_is_packed_in_the_order_of_landing() {
        check(&LIMITS, &[("a", 9), ("a", 5), ("a", 7)], &[]);
        check(
            &LIMITS,
            &[("b", 6), ("a", 9), ("a", 5), ("a", 7), ("a", 8), ("b", 6)],
            &[("a", &[9, 5, 7, 8])],
        );
        check(&LIMITS, &[("a", 1000); 8], &[]);
        check(&LIMITS, &[("a", 0); 4], &[("a", &[0, 0, 0, 0])]);
    }

    #[test]
    fn files_wait_for_others_of_their_size() {
        check(&LIMITS, &[("a", 300), ("a", 9), ("a", 300), ("a", 9)], &[]);
        let mixed = [("a", 300), ("a", 9), ("a", 8), ("a", 9), ("a", 9)];
        check(&LIMITS, &mixed, &[("a", &[9, 8, 9, 9])]);
        let smaller = [("a", 3), ("a", 60), ("a", 60), ("a", 60), ("a", 60)];
        check(&LIMITS, &smaller, &[("a", &[3, 60, 60, 60, 60])]);
        let all = Limits {
            alike: false,
            compact_after: 2,
            ..LIMITS
        };
        check(&all, &mixed, &[("a", &[300, 9, 8, 9, 9])]);
        check(&all, &[("a", 1)], &[]);
    }

    #[test]
    fn packs_are_bounded() {
        let six = [("a", 700); 6];
        let two: (&str, &[u64]) = ("a", &[700; 2]);
        check(&LIMITS, &six, &[two; 3]);
        let five = [("a", 700); 5];
        check(&LIMITS, &five, &[two; 2]);
        let many = vec![("a", 1); PACK_FILES_MAX + 2];
        check(
            &LIMITS,
            &many,
            &[("a", &[1; PACK_FILES_MAX]), ("a", &[1; 2])],
        );
    }

    #[test]
    fn nothing_is_packed_where_the_contract_says_so() {
        let never = Limits {
            compact_after: 0,
            ..LIMITS
        };
        check(&never, &[("a", 1); 50], &[]);
    }

    #[test]
    fn a_byte_is_written_again_a_few_times_only() {
        // Files of one size land one after the other, and each round packs what the plan says.
        let limits = Limits {
            small_file_bytes: 1 << 20,
            compact_after: 16,
            alike: true,
            pack_bytes_max: 4 << 20,
        };
        let (mut files, mut landed, mut written) = (Vec::new(), 0, 0);
        for at in 0..4096 {
            landed += 1000;
            files.push(Kept {
                path: format!("{at}"),
                day: "a".to_owned(),
                bytes: 1000,
                rows: None,
                modified: at,
                first_offset: at,
            });
            for pack in plan(files.clone(), &limits) {
                files.retain(|file| !pack.files.contains(file));
                written += pack.bytes();
                files.push(Kept {
                    path: format!("{at}-packed"),
                    bytes: pack.bytes(),
                    ..pack.files[0].clone()
                });
            }
        }
        assert!(files.len() < 64, "{} files stay", files.len());
        assert!(written <= 3 * landed, "{written} for {landed}");
    }
}
