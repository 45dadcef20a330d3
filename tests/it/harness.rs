//! The harness itself: what other tests assume about `Gateway` is true. A shell plays the gateway.

use std::{panic::catch_unwind, process::Command, time::Duration};

use crate::common::gateway::Gateway;

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_millis(50);

fn shell(script: &str) -> Gateway {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Gateway::start_command(command)
}

#[test]
fn lines_of_both_outputs_are_captured_and_kept() {
    let mut gateway = shell("echo one; echo two >&2; echo one more");
    assert!(gateway.wait_exit(SOON).success());
    assert_eq!(gateway.line_count(), 3);
    assert_eq!(gateway.wait_for_line("two", NEVER), "two");
    assert_eq!(gateway.wait_for_line_after(1, "more", NEVER), "one more");
}

#[test]
fn addresses_are_read_from_the_log() {
    let gateway = shell(
        "echo 'INFO listening protocol=api addr=127.0.0.1:1'
         echo 'INFO listening protocol=\"stratum\" addr=[::1]:2'; exec sleep 60",
    );
    assert_eq!(gateway.addr("stratum").to_string(), "[::1]:2");
    assert_eq!(gateway.addr("api").port(), 1);
}

#[test]
fn signals_arrive_and_exit_codes_come_back() {
    let mut gateway = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    gateway.wait_for_line("ready", SOON);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit(SOON).code(), Some(7));
}

#[test]
fn waiting_in_vain_fails_and_says_what_for() {
    let outcome = catch_unwind(|| shell("echo something").wait_for_line("else", NEVER));
    let message = *outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("\"else\""), "{message}");
}

#[test]
fn a_killed_process_is_gone() {
    let mut gateway = shell("echo ready; exec sleep 60");
    gateway.wait_for_line("ready", SOON);
    gateway.kill9();
    assert!(!gateway.wait_exit(SOON).success());
}
