;; Gives up when it is configured.
;; where: start
;; expect: `configure` failed: wasm trap: wasm `unreachable`
(func $on_configure (unreachable))
