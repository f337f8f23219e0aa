// Command etcd-wal appends batches to the write-ahead log of etcd and says how long each took.
//
// Usage: etcd-wal FOLDER PAYLOAD_BYTES. Each line of standard input is a number of entries to
// append as one batch; the answer is a line with the nanoseconds until it was durable.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd-wal:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("a folder and the length of payloads are needed")
	}
	payloadBytes, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	log, err := wal.Create(zap.NewNop(), arguments[0], nil)
	if err != nil {
		return err
	}
	defer log.Close()
	payload := make([]byte, payloadBytes)
	for number := range payload {
		payload[number] = byte(number*7 + 1)
	}
	next := uint64(1)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		count, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		entries := make([]raftpb.Entry, count)
		for number := range entries {
			entries[number] = raftpb.Entry{Term: 1, Index: next, Data: payload}
			next++
		}
		state := raftpb.HardState{Term: 1, Commit: next - 1}
		started := time.Now()
		if err := log.Save(state, entries); err != nil {
			return err
		}
		fmt.Println(time.Since(started).Nanoseconds())
	}
	return lines.Err()
}
