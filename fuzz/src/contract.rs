//! Contract files: a text is a contract, or every problem has a line.
//!
//! A contract that was read is one that every worker can start with, and reading it again gives the same digest.

use learn::features::FeatureSpace;
use learn::learners::Params;
use linfa::ParamGuard;
use schemas::{Columns, Contract};

/// Reads a contract.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Contract::parse("fuzz.toml", &text) {
        Err(errors) => assert!(!errors.to_string().is_empty()),
        Ok(contract) => {
            let again = Contract::parse("again.toml", &text).expect("it was a contract before");
            assert_eq!(contract.digest(), again.digest());
            let _ = (contract.id_field(), Columns::of(&contract));
            FeatureSpace::new(&contract).expect("features are of open fields");
            if contract.label.is_some() {
                let params = Params::of(&contract.learner).check();
                params.expect("a learner that was accepted can be");
            }
        }
    }
}
