use super::column::Column;
use super::label::LabelKind;
use super::seen::Seen;
use super::*;

/// Takes a sample written as CSV without quotes.
fn sample(file: &str, text: &str) -> Sample {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let header = lines.next().unwrap();
    let mut columns: Vec<Column> = header.split(',').map(|name| Column::new(name, 0)).collect();
    let mut rows = 0;
    for line in lines {
        rows += 1;
        for (column, value) in columns.iter_mut().zip(line.split(',')) {
            column.add(Seen::untyped(value));
        }
    }
    Sample {
        file: file.to_owned(),
        rows,
        cut: false,
        columns,
    }
}

const CLICKS: &str = "
    click_id,shown_at,user_id,banner,price,clicked,closed_at
    a,2024-01-01T00:00:00Z,7,x,1.5,0,2024-01-01T01:00:00Z
    b,2024-01-01T00:01:00Z,8,y,2.5,1,2024-01-01T00:30:00Z
    c,2024-01-01T00:02:00Z,7,x,9.5,1,2024-01-01T02:30:00Z
    d,2024-01-01T00:03:00Z,9,y,4.5,0,2024-01-01T03:30:00Z
";

/// The names of the columns that were guessed: id, time, subject, label, label time.
fn guessed(sample: &Sample, wishes: &Wishes) -> [Option<String>; 5] {
    let keys = keys::keys(sample, wishes).unwrap();
    let label = keys.label.map(|(guess, _)| guess);
    [keys.id, keys.time, keys.subject, label, keys.label_time]
        .map(|guess| guess.map(|guess| sample.columns[guess.place].name.clone()))
}

fn names(names: [&str; 5]) -> [Option<String>; 5] {
    names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
}

#[test]
fn keys_are_guessed_from_names_and_values() {
    let check = |text: &str, expected: [&str; 5]| {
        let sample = sample("f.csv", text);
        assert_eq!(
            guessed(&sample, &Wishes::default()),
            names(expected),
            "{text}"
        );
    };
    check(
        CLICKS,
        ["click_id", "shown_at", "user_id", "clicked", "closed_at"],
    );
    // Milliseconds are times only under a name that says so; seconds are not.
    check(
        "id,ts,rating\n1,1704067200000,5\n2,1704067200001,3\n3,1704067200002,4",
        ["id", "ts", "", "rating", ""],
    );
    check(
        "id,ts,rating\n1,1704067200,5\n2,1704067201,3\n3,1704067202,4",
        ["id", "", "", "rating", ""],
    );
    // An id that comes twice is none; what is known before is no label.
    check(
        "id,is_weekend,x\n1,0,1.5\n1,1,2.5\n2,1,3.5",
        ["", "", "", "", ""],
    );
    check(
        "day,price,class\n1,0.5,UP\n2,0.7,DOWN\n3,0.6,UP",
        ["", "", "", "class", ""],
    );
}

#[test]
fn wishes_come_before_guesses() {
    let wishes = Wishes {
        label: Some("price".to_owned()),
        id: Some("user_id".to_owned()),
        time: Some("closed_at".to_owned()),
        subject: Some("banner".to_owned()),
        ..Wishes::default()
    };
    let sample = sample("f.csv", CLICKS);
    let expected = names(["user_id", "closed_at", "banner", "price", ""]);
    assert_eq!(guessed(&sample, &wishes), expected);
}

#[test]
fn a_wish_that_cannot_be_met_says_what_is_there() {
    let sample = sample("f.csv", CLICKS);
    let check = |wishes: Wishes, expected: &[&str]| {
        let error = draft(&sample, &wishes).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{part} in {error}");
        }
    };
    let column = |name: &str| Some(name.to_owned());
    check(
        Wishes {
            label: column("late"),
            ..Wishes::default()
        },
        &["--label late", "f.csv", "click_id, shown_at"],
    );
    check(
        Wishes {
            time: column("banner"),
            ..Wishes::default()
        },
        &["--time banner", "RFC 3339"],
    );
    check(
        Wishes {
            id: column("price"),
            ..Wishes::default()
        },
        &["--id price", "texts or whole numbers"],
    );
    check(
        Wishes {
            label: column("shown_at"),
            ..Wishes::default()
        },
        &["--label shown_at", "true or false"],
    );
    check(
        Wishes {
            name: column("My Stream"),
            ..Wishes::default()
        },
        &["My Stream", "--name NAME"],
    );
}

#[test]
fn the_type_of_a_label_follows_from_its_values() {
    let check = |name: &str, values: &[&str], expected: LabelKind| {
        let rows: Vec<String> = values.iter().map(|value| format!("1.5,{value}")).collect();
        let sample = sample("f.csv", &format!("x,{name}\n{}", rows.join("\n")));
        let keys = keys::keys(&sample, &Wishes::default()).unwrap();
        assert_eq!(
            keys.label.map(|(_, kind)| kind),
            Some(expected),
            "{name} {values:?}"
        );
    };
    let classes =
        |names: &[&str]| LabelKind::Class(names.iter().map(|name| (*name).to_owned()).collect());
    check("fraud", &["0", "1", "0"], LabelKind::Bool);
    check("fraud", &["True", "False", ""], LabelKind::Bool);
    check("target", &["0.5", "1.5", "7"], LabelKind::Number);
    check(
        "outcome",
        &["won", "lost", "drawn", "won"],
        classes(&["drawn", "lost", "won"]),
    );
    check("class", &["1", "2", "3"], classes(&["1", "2", "3"]));
}

#[test]
fn a_draft_is_a_contract() {
    let draft = draft(&sample("data/Ad Clicks.csv", CLICKS), &Wishes::default()).unwrap();
    let contract = Contract::parse("draft", &draft.text).unwrap();
    assert_eq!(contract.stream.name, "ad-clicks");
    assert_eq!(contract.id_field().name, "click_id");
    let user = &contract.fields[contract.event.subject.unwrap()];
    assert_eq!(user.name, "user_id");
    assert!(user.privacy.seal && user.privacy.token && !user.privacy.open);
    let label = contract.label.unwrap();
    assert_eq!(
        (label.name.as_str(), label.time.as_str()),
        ("clicked", "closed_at")
    );
    assert_eq!(label.wait_max.as_secs(), 8 * 3600);
    let fields: Vec<&str> = contract
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(
        fields,
        ["click_id", "shown_at", "user_id", "banner", "price"]
    );
    assert!(
        draft.text.contains("the name speaks of an outcome"),
        "{}",
        draft.text
    );
    assert_eq!(draft.guesses.len(), 5);
}

#[test]
fn what_cannot_be_a_field_is_left_out_and_named() {
    let text = "
        a b,_x,empty,user,user_token,n\u{7},amount,é
        1,1,,u1,t1,1,1.5,1
        2,2,,u2,t2,2,2.5,2
    ";
    let draft = draft(&sample("\"\n.csv", text), &Wishes::default()).unwrap();
    let contract = Contract::parse("draft", &draft.text).unwrap();
    let fields: Vec<&str> = contract
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(fields, ["id", "time", "user", "amount"]);
    for name in [
        "\"a b\"",
        "\"_x\"",
        "\"empty\"",
        "\"user_token\"",
        "\"n\\u0007\"",
        "\"é\"",
    ] {
        assert!(
            draft.text.contains(&format!("# Left out: {name};")),
            "{name} in {}",
            draft.text
        );
    }
    assert!(contract.label.is_none() && !draft.has_label);
    assert_eq!(contract.stream.name, "stream");
}
