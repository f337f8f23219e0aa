package images

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPodsFindAnImageUnderEveryUsualName(t *testing.T) {
	for name, wanted := range map[string][]string{
		"quadraft-node:0.1.0":                   {"docker.io/library/quadraft-node:0.1.0"},
		"localhost/quadraft-node:0.1.0":         {"localhost/quadraft-node:0.1.0", "docker.io/library/quadraft-node:0.1.0"},
		"docker.io/library/quadraft-node:0.1.0": {"docker.io/library/quadraft-node:0.1.0"},
		"team/node":                             {"docker.io/team/node:latest"},
		"registry.example:5000/node":            {"registry.example:5000/node:latest"},
		"quadraft.dev/bed/pause:1":              {"quadraft.dev/bed/pause:1"},
	} {
		if got := PodNames(name); !slices.Equal(got, wanted) {
			t.Errorf("%s: got %v, want %v", name, got, wanted)
		}
	}
}

func TestAScratchImageTellsItsName(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "program")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(folder, "archive.tar")
	if err := WriteScratch(archive, "quadraft.dev/some:1", program); err != nil {
		t.Fatal(err)
	}
	names, err := NamesIn(archive)
	if err != nil || !slices.Equal(names, []string{"quadraft.dev/some:1"}) {
		t.Errorf("%v, %v", names, err)
	}
}

func TestNamesAreReadFromBothKindsOfArchives(t *testing.T) {
	for content, wanted := range map[[2]string][]string{
		{"manifest.json", `[{"RepoTags":["b:1","a:1"]},{"RepoTags":["b:1"]}]`}:                                           {"a:1", "b:1"},
		{"./index.json", `{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"localhost/node:0.1.0"}}]}`}: {"localhost/node:0.1.0"},
	} {
		names, err := NamesIn(archiveOf(t, content[0], content[1]))
		if err != nil || !slices.Equal(names, wanted) {
			t.Errorf("%s: %v, %v", content[0], names, err)
		}
	}
}

func TestWhatIsNoImageArchiveIsRefused(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("not an archive, but long enough to look like a header"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"text":          text,
		"other archive": archiveOf(t, "something", "else"),
		"broken index":  archiveOf(t, "index.json", "{"),
		"nameless":      archiveOf(t, "index.json", `{"manifests":[{}]}`),
		"missing":       "/no/such/file",
	} {
		if names, err := NamesIn(path); err == nil {
			t.Errorf("%s: %v", name, names)
		}
	}
}

func archiveOf(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.tar")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	writer := tar.NewWriter(file)
	if err := writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImportedNamesAreReadFromTheOutput(t *testing.T) {
	output := "unpacking docker.io/library/a:1 (sha256:12)...done\nsomething else\nunpacking localhost/b:2 (sha256:34)...done\n"
	if got := ImportedNames(output); !slices.Equal(got, []string{"docker.io/library/a:1", "localhost/b:2"}) {
		t.Errorf("got %v", got)
	}
}

func TestABaseIsOnlyForNamesThatAreTags(t *testing.T) {
	if !onlyTags([]string{"latest", "v1"}) || onlyTags([]string{"latest", "node:1"}) {
		t.Error("wrong")
	}
}
