use std::time::{Duration, Instant};
use futures_util::StreamExt;
use crate::support::Server;
use ::redis;
pub async fn run() {
    let server = Server::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut ps = client.get_async_pubsub().await.unwrap();
    ps.subscribe("x").await.unwrap();
    let (tx, mut rx) = tokio::sync::mpsc::channel(10);
    tokio::spawn(async move { let mut s = ps.into_on_message(); while let Some(_m) = s.next().await { tx.send(Instant::now()).await.unwrap(); } });
    let mut c = server.connection().await;
    let (mut a, mut b, mut d) = (vec![], vec![], vec![]);
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let t = Instant::now();
        redis::cmd("PING").exec_async(&mut c).await.unwrap();
        a.push(t.elapsed());
        tokio::time::sleep(Duration::from_millis(3)).await;
        let t = Instant::now();
        let mut c2 = c.clone();
        tokio::spawn(async move { redis::cmd("PUBLISH").arg("x").arg(vec![b'x'; 1024]).exec_async(&mut c2).await.unwrap() });
        let at = rx.recv().await.unwrap();
        d.push(at - t);
        b.push(t.elapsed());
    }
    a.sort(); b.sort(); d.sort();
    println!("ping {:?} pubsub {:?} in-task {:?}", a[250], b[250], d[250]);

    use tower_singleflight::{Key, backend::{Redis, Owner, Fence, Begin, Begun, Record, Lifetimes, Backend}};
    let (x, y) = (Redis::connect(&server.url(), "t").await.unwrap(), Redis::connect(&server.url(), "t").await.unwrap());
    let (mut a, mut b) = (vec![], vec![]);
    for round in 0..500_u32 {
        let key = Key::builder("k").part(round.to_be_bytes()).finish();
        let begin = |n: u128| Begin { owner: Owner(n), lease: Duration::from_secs(5), followed: Fence::NONE };
        let Begun::Lead { fence, .. } = x.begin(&key, begin(1)).await.unwrap() else { panic!() };
        let Begun::Follow { mut watch, .. } = y.begin(&key, begin(2)).await.unwrap() else { panic!() };
        let (x, key) = (x.clone(), key.clone());
        let w = tokio::spawn(async move { watch.next().await; Instant::now() });
        tokio::time::sleep(Duration::from_millis(3)).await;
        let t = Instant::now();
        let record = Record { lifetimes: Lifetimes { keep: Duration::from_secs(6), ..Default::default() }, cost: Duration::ZERO, payload: vec![b'x'; 1024].into() };
        x.complete(&key, Owner(1), fence, record).await.unwrap();
        b.push(t.elapsed());
        a.push(w.await.unwrap() - t);
    }
    a.sort(); b.sort();
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut server.connection().await).await.unwrap();
    println!("{stats}");
    println!("backend complete->notice {:?} complete->reply {:?}", a[250], b[250]);
}
