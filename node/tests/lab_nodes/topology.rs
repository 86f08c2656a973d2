//! The operator's topology reaches every node; each takes it by itself or refuses it.

use std::path::PathBuf;
use std::process::Output;

use consort_lab::wide::Cable;
use consort_node::control::api::{Operators, TopologyBody, TopologyPlan, TopologyState};
use consort_node::demo::stage::{Stage, StageHost, awaited};
use consort_node::topology::LinkKind;

use crate::support::{in_lab, status};

/// A star around the first host, with all hosts of the stage named `h0`, `h1`, ….
async fn star(stage: &Stage) -> String {
    let mut text = "name = \"lab\"\nshape = \"star\"\nhubs = [\"h0\"]\n[hosts]\n".to_owned();
    for (number, host) in stage.hosts.iter().enumerate() {
        text += &format!("h{number} = \"{}\"\n", status(&host.client()).await.host);
    }
    text
}

fn file(stage: &Stage, name: &str, text: &str) -> PathBuf {
    let path = stage.hosts[0].host.state().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `consort topology` against a host's node.
fn consort(host: &StageHost, words: &[&str], file: Option<&PathBuf>) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_consort"))
        .arg("--socket")
        .arg(host.socket())
        .arg("topology")
        .args(words)
        .args(file)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn held(host: &StageHost) -> TopologyState {
    host.client().get("/v1/topology").await.unwrap()
}

async fn until_version(host: &StageHost, version: u64) -> TopologyState {
    let what = format!("{} holds version {version}", host.host.name());
    awaited(&what, async || {
        let state: TopologyState = host.client().get("/v1/topology").await?;
        Ok((state.version == Some(version)).then_some(state))
    })
    .await
    .unwrap()
}

in_lab! {
    async fn a_topology_applied_on_one_node_holds_on_all_and_over_a_restart() {
        let mut stage = Stage::build(3, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        assert_eq!(held(&stage.hosts[1]).await.version, None);
        let text = star(&stage).await;
        let path = file(&stage, "star.toml", &text);

        let checked = consort(&stage.hosts[0], &["check"], Some(&path));
        assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
        let planned = consort(&stage.hosts[0], &["plan"], Some(&path));
        assert!(said(&planned).contains("link h1 - h2: allowed -> forbidden"), "{}", said(&planned));
        assert_eq!(held(&stage.hosts[0]).await.version, None, "a plan changes nothing");
        let applied = consort(&stage.hosts[0], &["apply", "--json"], Some(&path));
        assert_eq!(applied.status.code(), Some(0), "{}", said(&applied));
        let plan: TopologyPlan = serde_json::from_slice(&applied.stdout).unwrap();
        assert!(plan.applied && plan.to_version == 1, "{plan:?}");

        for host in &stage.hosts {
            let state = until_version(host, 1).await;
            assert_eq!(state.file.as_deref(), Some(text.as_str()));
            assert_eq!(state.view.links.iter().filter(|link| link.rule == LinkKind::Allowed).count(), 2);
        }
        let again = consort(&stage.hosts[2], &["plan"], Some(&path));
        assert!(said(&again).contains("nothing changes"), "{}", said(&again));
        let drawn = consort(&stage.hosts[1], &["show", "--svg"], None);
        assert!(said(&drawn).starts_with("<svg") && said(&drawn).contains(">h2<"), "{}", said(&drawn));

        stage.hosts[2].kill_node().unwrap();
        stage.hosts[2].start_node(&[]).unwrap();
        stage.hosts[2].ready().await.unwrap();
        until_version(&stage.hosts[2], 1).await;
    }
}

in_lab! {
    async fn who_may_not_is_refused_and_a_bad_file_gets_nowhere() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let text = star(&stage).await;
        let path = file(&stage, "star.toml", &text);

        let refused = consort(&stage.hosts[1], &["apply"], Some(&path));
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("neither the founder"), "{}", said(&refused));

        let bad = file(&stage, "bad.toml", &text.replace("\"h0\"", "\"h9\""));
        for step in ["check", "plan", "apply"] {
            let refused = consort(&stage.hosts[0], &[step], Some(&bad));
            assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
            assert!(said(&refused).contains("line 3: `h9` is no host of this file"), "{}", said(&refused));
        }
        // The node itself refuses what the command would have caught.
        let body = TopologyBody { file: text.replace("\"h0\"", "\"h9\""), force: false };
        let failure = stage.hosts[0].client().post::<TopologyPlan>("/v1/topology/apply", &body).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.exit().number()), ("topology_file", 2));

        // A member that the file leaves without any link is not left so by mistake.
        let alone = format!("shape = \"custom\"\n[hosts]\nh0 = \"{}\"\n", status(&stage.hosts[0].client()).await.host);
        let alone = file(&stage, "alone.toml", &alone);
        let refused = consort(&stage.hosts[0], &["apply"], Some(&alone));
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("could reach nobody"), "{}", said(&refused));
        assert_eq!(held(&stage.hosts[0]).await.version, None);

        // Appointed, the second host may; dismissed, what it said is void.
        let second = status(&stage.hosts[1].client()).await.host;
        let appointed = consort(&stage.hosts[0], &["operators", "--add", &second], None);
        assert_eq!(appointed.status.code(), Some(0), "{}", said(&appointed));
        awaited("it knows of its appointment", async || {
            let operators: Operators = stage.hosts[1].client().get("/v1/topology/operators").await?;
            Ok(operators.operators.contains(&second).then_some(()))
        })
        .await
        .unwrap();
        let applied = consort(&stage.hosts[1], &["apply"], Some(&path));
        assert_eq!(applied.status.code(), Some(0), "{}", said(&applied));
        until_version(&stage.hosts[0], 1).await;
        let dismissed = consort(&stage.hosts[0], &["operators", "--remove", &second], None);
        assert_eq!(dismissed.status.code(), Some(0), "{}", said(&dismissed));
        for host in &stage.hosts {
            awaited("nothing holds any more", async || {
                let state: TopologyState = host.client().get("/v1/topology").await?;
                Ok(state.version.is_none().then_some(()))
            })
            .await
            .unwrap();
        }
    }
}
