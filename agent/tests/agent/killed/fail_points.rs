//! The process ends at each boundary between deciding, driving, writing and sending, for each kind
//! of command.

use door_agent::fail_point;

use super::*;

/// The command in progress.
const COMMANDS: [Form; 4] = [FORMS[0], FORMS[2], FORMS[5], FORMS[6]];

impl KilledDoor {
    fn is_dead(&mut self) -> bool {
        self.agent.as_mut().unwrap().has_ended()
    }

    /// Sends a command to an agent that may end at any moment.
    async fn command_or_death(&mut self, hub: &TestHub, mut sent: SentCommand) {
        sent.at = Instant::now();
        let name = self.name.clone();
        let call = hub.invoke_when_online(&name, sent.method, sent.payload.clone());
        let mut call = std::pin::pin!(call);
        let answer = loop {
            tokio::select! {
                answer = call.as_mut() => break Some(answer),
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    if self.is_dead() {
                        break tokio::time::timeout(ANSWER_TIMEOUT, call).await.ok();
                    }
                }
            }
        };
        self.handle_answer(sent, answer);
    }

    /// The ends of the operator's grant and hold as reported; a command that acts twice changes
    /// them.
    async fn ends(&self) -> Value {
        let status = self.status(|_| true).await;
        let slots = status["door"]["slots"].as_array().unwrap();
        slots
            .iter()
            .map(|slot| json!([slot["slot"], slot["commandId"], slot["until"]]))
            .collect()
    }

    /// A life that ends at `place` during `command`, and the start after it. False if the place was
    /// not reached.
    async fn end_at(&mut self, hub: &TestHub, place: &str, command: usize) -> bool {
        let armed = self.state.with_extension("armed");
        self.start_with(&[
            ("DOOR_AGENT_FAIL_POINT", OsStr::new(place)),
            ("DOOR_AGENT_FAIL_ARMED", armed.as_os_str()),
        ]);
        self.check().await;
        self.idle().await;
        std::fs::write(&armed, "").unwrap();
        let id = format!("{}-{place}-{command}", self.name);
        let sent = SentCommand::new(COMMANDS[command], id);
        self.command_or_death(hub, sent).await;
        // Events are sent and acknowledged, the state is reported: `place` may be in there.
        let begin = Instant::now();
        while !self.is_dead() && begin.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let reached = self.is_dead();
        std::fs::remove_file(&armed).unwrap();
        if reached {
            let status = self.agent.take().unwrap().wait();
            use std::os::unix::process::ExitStatusExt as _;
            assert_eq!(
                status.signal(),
                Some(6),
                "{place}: ended for another reason"
            );
        }
        self.kill();

        self.start();
        self.check().await;
        let before = self.ends().await;
        let again = self.last.clone().unwrap();
        let acted = before.to_string().contains(&format!("\"{}\"", again.id));
        self.command(hub, again, None).await;
        self.check().await;
        if acted {
            assert_eq!(self.ends().await, before, "{place}: it acted twice");
        }
        self.end();
        reached
    }

    /// Shuts the agent down, so that it sends what is pending.
    fn end(&mut self) {
        assert!(self.agent.take().unwrap().terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_at_any_fail_point_loses_and_duplicates_nothing() {
    let hub = std::sync::Arc::new(TestHub::start().await);
    let home = tempfile::tempdir().unwrap();
    let mut doors = JoinSet::new();
    for door in 0..DOORS {
        let mut victim = KilledDoor::new(&hub, home.path(), format!("door-{door}")).await;
        let hub = std::sync::Arc::clone(&hub);
        doors.spawn(async move {
            let mut reached = BTreeSet::new();
            for (number, place) in fail_point::ALL.iter().enumerate() {
                for command in 0..COMMANDS.len() {
                    if (number * COMMANDS.len() + command) % DOORS == door
                        && victim.end_at(&hub, place, command).await
                    {
                        reached.insert(*place);
                    }
                }
            }
            victim.settle(&hub).await;
            reached
        });
    }
    let reached: BTreeSet<_> = doors.join_all().await.into_iter().flatten().collect();
    let all: BTreeSet<_> = fail_point::ALL.iter().copied().collect();
    let missed: Vec<_> = all.difference(&reached).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}
