// Package images makes small images and loads image archives into the nodes.
package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

const (
	nameAnnotation      = "io.containerd.image.name"
	referenceAnnotation = "org.opencontainers.image.ref.name"
	// unnamedBase is what containerd puts before a reference that is a mere tag.
	unnamedBase = "docker.io/library/imported"
)

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []descriptor `json:"manifests"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// NamesIn reads the names of the images in an OCI or Docker archive, as they
// stand there.
func NamesIn(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var names []string
	recognised := false
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s is not a tar archive: %w", path, err)
		}
		switch strings.TrimPrefix(header.Name, "./") {
		case "index.json":
			recognised = true
			var content index
			if err := json.NewDecoder(reader).Decode(&content); err != nil {
				return nil, fmt.Errorf("%s: index.json: %w", path, err)
			}
			for _, manifest := range content.Manifests {
				name := manifest.Annotations[nameAnnotation]
				if name == "" {
					name = manifest.Annotations[referenceAnnotation]
				}
				if name != "" {
					names = append(names, name)
				}
			}
		case "manifest.json":
			recognised = true
			var content []struct{ RepoTags []string }
			if err := json.NewDecoder(reader).Decode(&content); err != nil {
				return nil, fmt.Errorf("%s: manifest.json: %w", path, err)
			}
			for _, image := range content {
				names = append(names, image.RepoTags...)
			}
		}
	}
	if !recognised {
		return nil, fmt.Errorf("%s is neither an OCI nor a Docker image archive", path)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no image with a name", path)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// onlyTags tells whether no name is more than a tag.
func onlyTags(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return strings.ContainsAny(name, "/:@") })
}

// ImportedNames reads from the output of an import under which names the
// images now are: containerd changes some, differently by the kind of archive.
func ImportedNames(output string) []string {
	var names []string
	for _, line := range strings.Split(output, "\n") {
		fields := strings.Fields(line)
		if len(fields) >= 3 && fields[0] == "unpacking" && strings.HasPrefix(fields[2], "(") {
			names = append(names, fields[1])
		}
	}
	return names
}

// PodNames are the full names under which pods find an image: the container
// runtime looks for `node:1` under docker.io/library, and build tools write it
// as localhost/node:1.
func PodNames(name string) []string {
	host, rest, found := strings.Cut(name, "/")
	if !found || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		host, rest = "docker.io", name
	}
	if host == "docker.io" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	last := rest[strings.LastIndexByte(rest, '/')+1:]
	if !strings.ContainsAny(last, ":@") {
		rest += ":latest"
	}
	names := []string{host + "/" + rest}
	if host == "localhost" {
		names = append(names, PodNames(rest)...)
	}
	return names
}
