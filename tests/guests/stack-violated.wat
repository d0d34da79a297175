;; Calls itself a little too often: a level takes 32 bytes.
;; expect: went deeper than the 512KiB of rule.guest.stack
(func $deeper (param $more i32) (result i32)
  (if (result i32) (local.get $more)
    (then (i32.add (call $deeper (i32.sub (local.get $more) (i32.const 1))) (i32.const 1)))
    (else (i32.const 0))))
(func $on_null (param $row i32) (drop (call $deeper (i32.const 18000))))
