//! The owner and strangers who ask at once: of one model, of two, and where there is no room for all.

use std::path::Path;

use engine::{
    Asker, Class, EngineError, EngineHandle, EngineOptions, Finish, GenerateEvent, GenerateRequest,
    KnownPrefix, Prefix, PrefixRequest,
};

use crate::tiny::Meta;
use crate::{answer, end_of, engine, model, of_peer, prompt, sampled, worker_dir};

#[tokio::test]
async fn many_at_once_are_as_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let mut running = Vec::new();
    for seed in 0..6 {
        let name = format!("peer {seed}");
        let request = of_peer(sampled(&path, seed), &name);
        running.push(engine.generate(request).await.unwrap());
    }
    let mut together = Vec::new();
    for generation in running {
        together.push(answer(generation).await.unwrap());
    }
    engine.unload().await.unwrap();
    for (seed, together) in (0..).zip(together) {
        let alone = engine.generate(sampled(&path, seed)).await.unwrap();
        assert_eq!(answer(alone).await.unwrap(), together, "seed {seed}");
    }
}

#[tokio::test]
async fn what_one_asker_computed_serves_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let request = GenerateRequest {
        max_out: 2,
        ..GenerateRequest::new(&path, prompt(3, 100))
    };
    let read = async |request: GenerateRequest| {
        answer(engine.generate(request).await.unwrap())
            .await
            .unwrap()
            .read
    };
    assert_eq!(read(of_peer(request.clone(), "a")).await, 100);
    assert_eq!(
        read(request.clone()).await,
        100,
        "the owner finds nothing of a peer's"
    );
    assert_eq!(read(of_peer(request.clone(), "b")).await, 100);
    assert!(
        read(of_peer(request.clone(), "a")).await < 40,
        "who asked before does"
    );
    assert!(read(request).await < 40);
}

#[tokio::test]
async fn a_beginning_is_known_by_its_hash_to_who_had_it_computed() {
    const CONTEXT: &str = "engine tests";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    let engine = engine(dir.path());
    let ids = prompt(3, 100);
    let beginning = |len: usize| {
        let bytes: Vec<u8> = ids[..len].iter().flat_map(|id| id.to_le_bytes()).collect();
        Prefix {
            tokens: len as u32,
            hash: blake3::derive_key(CONTEXT, &bytes),
        }
    };
    let known = async |asker: Asker| {
        let request = PrefixRequest {
            file: path.clone(),
            asker,
            context: CONTEXT.to_owned(),
            prefixes: vec![beginning(100), beginning(50)],
        };
        engine.known_prefix(request).await.unwrap()
    };
    let peer = |name: &str| Asker::Peer(name.to_owned());
    assert_eq!(known(peer("a")).await, None, "nothing is loaded for it");
    assert_eq!(engine.stats().borrow().model_file, None);
    let request = GenerateRequest {
        max_out: 2,
        ..GenerateRequest::new(&path, ids[..80].to_vec())
    };
    answer(engine.generate(of_peer(request, "a")).await.unwrap())
        .await
        .unwrap();
    let half = KnownPrefix {
        prefix: beginning(50),
        tokens: 50,
    };
    assert_eq!(known(peer("a")).await, Some(half));
    assert_eq!(known(peer("b")).await, None);
    assert_eq!(known(Asker::Owner).await, None);
    engine.unload().await.unwrap();
    assert_eq!(known(peer("a")).await, None, "it went with the worker");
}

#[tokio::test]
async fn a_stranger_stands_aside_for_the_owner_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    model().write(&path);
    // Room for one full context and a little more.
    let roomy = engine(dir.path());
    let info = roomy.open_text(&path).await.unwrap();
    let logits = 64 * 4 * u64::from(info.vocab_size);
    let contexts = |tokens: u64| info.load_bytes + logits + info.kv_bytes_per_token * tokens;
    let tight = EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker_dir()],
        readable: vec![dir.path().to_owned()],
        memory_cap: Some(contexts(256 + 32)),
        ..EngineOptions::default()
    });
    let long = |seed| GenerateRequest {
        ignore_eog: true,
        max_out: 150,
        ..GenerateRequest::new(&path, prompt(seed, 100))
    };
    let mut stranger = tight.generate(of_peer(long(1), "a")).await.unwrap();
    stranger.pause();
    // A second of its class has no room, and is told the numbers.
    let refused = answer(tight.generate(of_peer(long(2), "b")).await.unwrap()).await;
    assert!(
        matches!(refused, Err(EngineError::NotEnoughMemory { need, have }) if need > have),
        "{refused:?}"
    );
    // With pages of its prompt in its hands it stands still again.
    stranger.resume();
    let mut begun = Vec::new();
    while begun.is_empty() {
        if let GenerateEvent::Tokens { ids, .. } = stranger.next().await.unwrap().unwrap() {
            begun = ids;
        }
    }
    stranger.pause();
    let own = answer(tight.generate(long(3)).await.unwrap())
        .await
        .unwrap();
    stranger.resume();
    let mut stranger = answer(stranger).await.unwrap();
    stranger.ids.splice(..0, begun);
    for (asked, got) in [(1, stranger), (3, own)] {
        let alone = answer(roomy.generate(long(asked)).await.unwrap())
            .await
            .unwrap();
        assert_eq!(got.ids, alone.ids);
    }
}

#[tokio::test]
async fn the_owners_other_model_displaces_a_strangers_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.gguf"), dir.path().join("two.gguf"));
    model().write(&one);
    model().write(&two);
    let engine = engine(dir.path());
    let request = |file: &Path, class: Class| GenerateRequest {
        class,
        asker: if class.is_network() {
            Asker::Peer("stranger".into())
        } else {
            Asker::Owner
        },
        ignore_eog: true,
        max_out: 8,
        ..GenerateRequest::new(file, vec![1, 2, 3])
    };
    // A stranger's answer that stands still holds its model; the owner's next question needs another.
    let stranger = engine.generate(request(&one, Class::Free)).await.unwrap();
    stranger.pause();
    let own = engine.generate(request(&two, Class::Own)).await.unwrap();
    assert_eq!(end_of(own).await, Ok(Finish::Length));
    // It was ended for the owner, or had not begun and may do so now.
    stranger.resume();
    let outcome = end_of(stranger).await;
    assert!(
        matches!(outcome, Err(EngineError::Displaced) | Ok(Finish::Length)),
        "{outcome:?}"
    );
    // A stranger's answer waits for the owner's model to be free.
    let waits = engine.generate(request(&one, Class::Free)).await.unwrap();
    assert_eq!(end_of(waits).await, Ok(Finish::Length));
}

#[tokio::test]
async fn what_waits_for_memory_does_not_hold_up_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.gguf"), dir.path().join("two.gguf"));
    model().write(&one);
    model().write(&two);
    let info = engine(dir.path()).open_text(&one).await.unwrap();
    // Room for one of the models.
    let tight = EngineHandle::new(EngineOptions {
        worker_dirs: vec![worker_dir()],
        readable: vec![dir.path().to_owned()],
        memory_cap: Some(info.load_bytes + (768 << 10)),
        ..EngineOptions::default()
    });
    let long = |file: &Path, seed| GenerateRequest {
        ignore_eog: true,
        max_out: 60,
        ..GenerateRequest::new(file, prompt(seed, 20))
    };
    let own = tight.generate(long(&one, 1)).await.unwrap();
    let mut standing = vec![own];
    for name in ["a", "b"] {
        let stranger = tight.generate(of_peer(long(&one, 2), name)).await.unwrap();
        standing.push(stranger);
    }
    for generation in &mut standing {
        generation.pause();
        generation.next().await.unwrap().unwrap();
    }
    // The owner's next question needs the other model, whose place the first one's answer holds.
    let waiting = tight.generate(long(&two, 3)).await.unwrap();
    let own = standing.remove(0);
    for stranger in &standing {
        stranger.resume();
    }
    let strangers = standing.into_iter().map(end_of).map(tokio::spawn);
    let ended = async {
        for stranger in strangers.collect::<Vec<_>>() {
            assert_eq!(stranger.await.unwrap(), Ok(Finish::Length));
        }
    };
    let soon = std::time::Duration::from_secs(30);
    tokio::time::timeout(soon, ended).await.expect("they go on");
    own.resume();
    assert_eq!(end_of(own).await, Ok(Finish::Length));
    assert_eq!(end_of(waiting).await, Ok(Finish::Length));
}

#[tokio::test]
async fn a_crowd_leaves_places_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut model = model();
    model.set("qwen2.context_length", Meta::U32(2048));
    model.write(&path);
    let engine = engine(dir.path());
    let request = |seed| GenerateRequest {
        ignore_eog: true,
        max_out: 60,
        ..GenerateRequest::new(&path, prompt(seed, 3))
    };
    // An answer of the owner's that stands still holds nobody up, and strangers that stand still stay.
    let mut crowd = Vec::new();
    for seed in 0..48 {
        let stranger = of_peer(request(seed), &format!("peer {seed}"));
        let stranger = engine.generate(stranger).await.unwrap();
        stranger.pause();
        crowd.push(stranger);
    }
    let refused = answer(
        engine
            .generate(of_peer(request(50), "one more"))
            .await
            .unwrap(),
    );
    assert_eq!(refused.await, Err(EngineError::TooManyCalls { limit: 48 }));
    let own = answer(engine.generate(request(51)).await.unwrap()).await;
    assert_eq!(own.unwrap().ids.len(), 60);
}
