//! The order of things: the console first, because it watches; the users last, because they need all the rest.
//! Stopping is the same backwards.
//!
//! If the shop stopped before its users, the last seconds of each run would show errors that nobody made, and
//! an order under way would find the bank already gone.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::plan::Spec;
use super::supervise;

/// The processes of one role.
type Group = Vec<Kept>;

/// A process that is kept running.
#[derive(Debug)]
struct Kept {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Starts every role, runs them until they are told to stop or the time is over, and stops them. A role that fails at
/// its first start ends the lab with a sentence: a start that goes on without it could only disappoint later.
pub(super) async fn run(shared: &Arc<Shared>) -> Result<(), String> {
    let mut groups = Vec::new();
    let started = tokio::select! {
        started = start(shared, &mut groups) => started,
        () = shared.stop.cancelled() => Ok(()),
    };
    if started.is_ok() {
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = over(shared) => {}
        }
    }
    shared.stop.cancel();
    for group in groups.into_iter().rev() {
        for kept in &group {
            kept.stop.cancel();
        }
        for kept in group {
            kept.task
                .await
                .map_err(|error| format!("the supervisor failed: {error}"))?;
        }
    }
    started
}

/// Returns when the lab has run for as long as it was meant to.
async fn over(shared: &Shared) {
    match shared.plan.run_for {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn start(shared: &Arc<Shared>, groups: &mut Vec<Group>) -> Result<(), String> {
    let plan = &shared.plan;
    let otlp = plan.otlp()?;
    one(shared, groups, plan.console(otlp)).await?;
    let mut payments = Vec::new();
    groups.push(Group::new());
    for index in 0..plan.payments_replicas {
        payments.extend(into_last(shared, groups, plan.payments(index, otlp)).await?);
    }
    let shop = one(shared, groups, plan.shop(&payments, otlp)).await?;
    let shop = shop.ok_or("shop did not tell where it listens")?;
    one(shared, groups, plan.traffic(shop, otlp)).await?;
    Ok(())
}

/// Starts the only process of a role, and returns where its data plane listens.
async fn one(
    shared: &Arc<Shared>,
    groups: &mut Vec<Group>,
    spec: Spec,
) -> Result<Option<SocketAddr>, String> {
    groups.push(Group::new());
    into_last(shared, groups, spec).await
}

async fn into_last(
    shared: &Arc<Shared>,
    groups: &mut [Group],
    mut spec: Spec,
) -> Result<Option<SocketAddr>, String> {
    let child = supervise::start(shared, &mut spec).await?;
    let data = spec.data;
    let stop = CancellationToken::new();
    let task = tokio::spawn(supervise::keep(
        Arc::clone(shared),
        spec,
        child,
        stop.clone(),
    ));
    if let Some(group) = groups.last_mut() {
        group.push(Kept { stop, task });
    }
    Ok(data)
}
