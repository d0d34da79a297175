;; Has a description that is no UTF-8.
;; where: start
;; expect: utf-8
(func $on_configure (i32.store8 (i32.const 1120) (i32.const 255)))
