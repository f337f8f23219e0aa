// Command probe is the program of the pods that the self-test runs.
//
//	probe serve           serves the file /data/value by HTTP on port 8080
//	probe write TEXT      writes it into that file
//	probe lookup NAME     prints the addresses of a DNS name
//	probe get URL         prints what an HTTP server answers
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"
)

const value = "/data/value"

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("which command?"))
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve()
	case "write":
		err = os.WriteFile(value, []byte(strings.Join(os.Args[2:], " ")), 0o600)
	case "lookup":
		err = lookup(os.Args[2])
	case "get":
		err = get(os.Args[2])
	default:
		err = fmt.Errorf("no command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(
		func(writer http.ResponseWriter, _ *http.Request) {
			content, err := os.ReadFile(value)
			if err != nil && !os.IsNotExist(err) {
				http.Error(writer, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = writer.Write(content)
		})}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func lookup(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	sort.Strings(addresses)
	fmt.Println(strings.Join(addresses, " "))
	return nil
}

func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, content)
	}
	fmt.Printf("%s\n", content)
	return nil
}
