use super::*;
use crate::actors::testing::{World, accept, log, probe};
use crate::protocol::proxy::Secrets;
use crate::protocol::proxy::tests::network::{UCS, interfaces, settings};
use crate::protocol::record_route::TokenKey;

fn router(world: &World) -> Addr<Router> {
    let now = Instant::now();
    let secrets = Secrets {
        transaction_key: [1; 16],
        nonce_key: [2; 32],
        token_key: TokenKey::new([3; 16]),
        epoch: now,
    };
    let core = Proxy::new(0, Arc::new(settings()), Arc::new(interfaces()), &secrets, 4, now);
    Router::new(0, core, Arc::clone(&world.directory), QueueLength::default(), log()).start()
}

/// The end of a connection may have been told to its predecessor alone.
#[actix::test]
async fn a_new_registrar_hears_of_the_connections_that_are_there_and_of_no_other() {
    let mut world = World::new(1);
    let (questions, mut asked) = probe();
    let (_peer, _connection) = accept(world.connections()).await;
    let there = world.routers[0].opened.next().await.flow;
    let gone = Flow { connection: Some(ConnectionId(1)), ..there };
    let router = router(&world);
    for flow in [there, gone] {
        router.do_send(FlowStanding { flow, account: Some(UCS), is_gone: false });
    }
    router.do_send(RegistrarRestarted { questions });
    let flows: Vec<_> = asked.next().await.questions.iter().map(|question| question.flow).collect();
    assert_eq!(flows, [there]);
}
