//! A minimal host: it gives its id, sends heartbeats, fetches its tasks, and reports each command as done
//! without running it. PROTOCOL.md describes every message; `anthill agent` is the complete host.
//!
//!     cargo run --example client -- 127.0.0.1:11451 web-1

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Sends a message: the length of its body in four bytes, then the body.
fn send(stream: &Mutex<TcpStream>, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    let length = u32::try_from(body.len()).expect("a short message");
    let frame = [&length.to_le_bytes(), body.as_bytes()].concat();
    stream.lock().expect("no panic").write_all(&frame)
}

fn receive(stream: &mut TcpStream) -> io::Result<Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    // The server answers in the byte order that it was addressed in.
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(server), Some(id)) = (words.next(), words.next()) else {
        return Err(io::Error::other("usage: client ADDRESS ID"));
    };
    let mut incoming = TcpStream::connect(server)?;
    let out = Arc::new(Mutex::new(incoming.try_clone()?));
    send(&out, &json!({"flag": "ADH40", "id": id, "push": true}))?;
    let welcome = receive(&mut incoming)?;
    if welcome["ACK"] != "keepGotIt" {
        return Err(io::Error::other(format!("refused: {welcome}")));
    }
    let interval = Duration::from_secs_f64(welcome["interval_s"].as_f64().unwrap_or(20.0));
    let beats = Arc::clone(&out);
    thread::spawn(move || {
        let beat = json!({"flag": "ADH18", "phase": 1, "ACK": "keepAlive"});
        while send(&beats, &beat).is_ok() {
            thread::sleep(interval);
        }
    });
    loop {
        let message = receive(&mut incoming)?;
        let key = &message["taskId"];
        match message["flag"].as_str() {
            // A task is there: acknowledge its key and ask for its commands.
            Some("ADH44") if key.is_string() => {
                let received = json!({"flag": "ADH33", "RCC": 1, "taskId": key, "answerTime": 0});
                send(&out, &received)?;
                send(&out, &json!({"flag": "ADH41", "taskId": key}))?;
            }
            Some("ADH41") if message["ACK"] == "keepGotIt" => work(&out, key, &message["tasks"])?,
            _ => println!("{message}"),
        }
    }
}

/// Reports the commands of a task one after the other, the highest priority first, as they come.
fn work(out: &Mutex<TcpStream>, key: &Value, tasks: &Value) -> io::Result<()> {
    let tasks = tasks.as_array().map_or(&[][..], Vec::as_slice);
    let commands: Vec<&Value> = tasks.iter().map(|task| &task[0]).collect();
    let report = |phase: u8, working: &Value, done: usize| {
        let (complete, oncall) = commands.split_at(done);
        let report = json!({"flag": "ADH27", "code": key, "phase": phase, "working": working,
            "complete": complete, "oncall": oncall});
        send(out, &report)
    };
    report(1, &Value::Null, 0)?;
    for (done, command) in commands.iter().enumerate() {
        println!("{key}: {command}");
        report(2, command, done)?;
        report(3, &Value::Null, done + 1)?;
    }
    Ok(())
}
