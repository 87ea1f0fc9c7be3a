//! Kademlia: a provider is found through a third node that both know.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{QUIC, TCP, TestNode, head, signed, within};
use protocol::ModelDigest;

#[tokio::test]
async fn a_provider_is_found_through_a_third_node_over_quic() {
    find(QUIC).await;
}

#[tokio::test]
async fn a_provider_is_found_through_a_third_node_over_tcp() {
    find(TCP).await;
}

async fn find(listen: &str) {
    let third = TestNode::listening(1, &[listen]).await;
    let provider = TestNode::listening(2, &[listen]).await;
    let client = TestNode::dialing(3).await;
    let (_, model) = head(1000, 1);
    // Published before it knows anybody: said again when somebody joins its table.
    provider
        .network
        .set_offers(vec![signed(&provider, model, 1)])
        .await;
    provider.connect(&third).await;
    client.connect(&third).await;

    let found = within("the provider", async {
        loop {
            let found = client.network.find_providers(&model.digest).await;
            if !found.is_empty() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(found.await, [provider.id()]);
    // Its address came with it.
    assert_eq!(
        within(
            "the connection",
            client.network.connect(&provider.id().to_string())
        )
        .await
        .unwrap(),
        provider.id()
    );
    assert_eq!(
        client.network.offers(&provider.id()).await.unwrap().len(),
        1
    );

    let unknown = ModelDigest::new([0xaa; 32]);
    assert_eq!(
        within("nobody", client.network.find_providers(&unknown)).await,
        []
    );
}

#[tokio::test]
async fn alone_in_the_world_a_search_ends() {
    let node = TestNode::dialing(4).await;
    assert_eq!(
        within(
            "nobody",
            node.network.find_providers(&ModelDigest::new([1; 32]))
        )
        .await,
        []
    );
}
