// A candidate as people write it in Go: the other kind that stands in our elections.
//
//	candidate [-hardened | -observe] -endpoints URLS [-election PREFIX] [-name NAME] [-ttl S] [-beat D]
//	          [-record FILE]
//
// As it comes, it is what tutorials show: a session, an election, Campaign, then work until somebody
// presses ctrl-c. With -hardened it also stops its work when the session is done, and on SIGINT or
// SIGTERM resigns and closes the session. With -observe it prints a line for each leader that it is
// told of: token, then name.
//
// Its work keeps the record that examples/recorder.rs keeps.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"golang.org/x/sys/unix"
)

var (
	endpoints = flag.String("endpoints", "http://127.0.0.1:2379", "URLs of the members")
	prefix    = flag.String("election", "/election", "the election")
	name      = flag.String("name", "go", "value of the candidate key")
	ttl       = flag.Int("ttl", 5, "seconds")
	beat      = flag.Duration("beat", 5*time.Millisecond, "how often the work says that it lives")
	file      = flag.String("record", "/dev/null", "where the work is recorded")
	hardened  = flag.Bool("hardened", false, "gives back, and stops when the session is done")
	observe   = flag.Bool("observe", false, "follows the election")
)

func main() {
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(*endpoints, ","),
		DialTimeout: 5 * time.Second,
	})
	check(err)
	defer client.Close()
	switch {
	case *observe:
		follow(client)
	case *hardened:
		guarded(client)
	default:
		tutorial(client)
	}
}

func tutorial(client *clientv3.Client) {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	check(err)
	defer session.Close()
	election := concurrency.NewElection(session, *prefix)
	check(election.Campaign(context.Background(), *name))
	work := begin(election.Rev())
	for {
		work.write("beat")
		time.Sleep(*beat)
	}
}

func guarded(client *clientv3.Client) {
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	check(err)
	defer session.Close()
	election := concurrency.NewElection(session, *prefix)
	if err := election.Campaign(asked, *name); err != nil {
		return
	}
	work := begin(election.Rev())
	beats := time.NewTicker(*beat)
	for {
		select {
		case <-session.Done():
			work.write("end")
			log.Fatal("the session is done")
		case <-asked.Done():
			work.write("end")
			resign, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			check(election.Resign(resign))
			return
		case <-beats.C:
			work.write("beat")
		}
	}
}

func follow(client *clientv3.Client) {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	check(err)
	defer session.Close()
	for leader := range concurrency.NewElection(session, *prefix).Observe(context.Background()) {
		fmt.Println(leader.Kvs[0].CreateRevision, string(leader.Kvs[0].Value))
	}
}

type record struct {
	*os.File
	token int64
}

func begin(token int64) record {
	opened, err := os.OpenFile(*file, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	check(err)
	work := record{opened, token}
	work.write("start")
	return work
}

func (r record) write(what string) {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	line := fmt.Sprintf("%s %d %d %d %[3]d", what, r.token, os.Getpid(), now.Nano())
	_, err := fmt.Fprintf(r, "%-63s\n", line)
	check(err)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
