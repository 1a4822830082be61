//! Encryption without disks, beside what the processors can do.

use std::process::Command;

use crate::measure::{Taken, once};
use crate::{Bench, Outcome, Row};

/// What is encrypted.
const AMOUNT: u32 = 4096;

impl Bench {
    /// AES-XTS in sectors of 4096 bytes, beside `openssl speed` with as many processes as there are
    /// processors: the example of the crate `luks` tells the speed of both.
    pub(crate) fn cipher(&mut self) -> Outcome<()> {
        let program = self.hash_tree.with_file_name("aes_xts");
        let command = || {
            let mut command = Command::new(&program);
            command.arg(AMOUNT.to_string());
            command
        };
        let run = once(command)?;
        let output = command().output()?;
        let told = String::from_utf8(output.stdout)?;
        let numbers = told.split_whitespace();
        let mut speeds = numbers.filter_map(|word| word.parse::<f64>().ok());
        let (Some(ours), Some(theirs)) = (speeds.next(), speeds.next()) else {
            return Err(format!("aes_xts told no speeds: {told}").into());
        };
        let at = |speed: f64| f64::from(AMOUNT) / speed;
        self.add(Row {
            work: "AES-XTS of 4 GiB in memory, all processors".to_owned(),
            against: "openssl speed -multi",
            ours: Taken {
                seconds: at(ours),
                ..run
            },
            theirs: Some(Taken {
                seconds: at(theirs),
                peak_mib: f64::NAN,
                written_mib: 0.0,
            }),
            reach: ">= 0.7x",
            written: None,
        });
        Ok(())
    }
}
